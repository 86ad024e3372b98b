/// The records of an arena: owner, tag and serial number of each block.
///
/// Plain memory that several processes map, offsets only. Knows nothing of locks and files: the caller holds
/// the arena's lock, and says how far the nodes are backed by memory.
///
/// One head for each 64 granules (a leaf), and from it a list of nodes of 64 bytes with seven entries each.
/// An entry is one word, written at once: a record is there or it is not. A node without entries goes to the
/// free nodes, so there are never more nodes in lists than blocks. A leaf has at most ten, since another is
/// added only where all are full.
///
/// **What is stopped** between two writes leaves an entry too many or one missing, and nodes that no list
/// has. Repair() mends all of it by what Books has, which is the truth about which blocks there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "arena_books.h"

namespace iospace::arena {

inline constexpr std::uint32_t kMostOwners = 1023;
inline constexpr std::uint32_t kMostTags = 4095;

struct Record {
  std::uint32_t owner = 0;   ///< 1 to kMostOwners.
  std::uint32_t tag = 0;     ///< 0 for none.
  std::uint32_t serial = 0;  ///< Never 0.
};

/// What Records::Check() compares.
enum class RecordPart : std::uint8_t { kNone, kOperation, kHeads, kEntries, kNodes, kOwners, kTags };

/// How many differences there are, and the first of them.
struct RecordDifferences {
  std::uint64_t count = 0;
  RecordPart part = RecordPart::kNone;
  std::uint64_t index = 0;  ///< Of the first: the granule, the leaf, the node, or the owner.
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

}  // namespace iospace::arena
