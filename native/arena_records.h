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

/// What changes with nearly each call. Lies beside the arena's lock, in its cache line.
struct RecordState {
  std::uint32_t serial;    ///< The last that was given.
  std::uint32_t used;      ///< Nodes that were ever taken.
  std::uint32_t free;      ///< The first of the free nodes among them.
  std::uint32_t capacity;  ///< Nodes that are backed by memory.
};

/// How many differences there are, and the first of them.
struct RecordDifferences {
  std::uint64_t count = 0;
  RecordPart part = RecordPart::kNone;
  std::uint64_t index = 0;  ///< Of the first: the granule, the leaf, the node, or the owner.
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

class Records {
 public:
  /// Where the record of a block is, or that there is none.
  struct Place {
    enum class State : std::uint8_t { kFound, kNone, kDamaged } state = State::kNone;
    Record record;
    std::uint32_t* link = nullptr;  ///< Which leads to the node.
    std::uint64_t* entry = nullptr;
  };

  static constexpr std::size_t kNodeBytes = 64;

  /// Bytes of the heads of such an arena, which are zero at first.
  static std::uint64_t HeadBytes(std::uint64_t granules);
  /// Bytes of all nodes that there can ever be.
  static std::uint64_t NodeBytes(std::uint64_t granules);

  Records() = default;
  Records(RecordState* state, std::byte* heads, std::byte* nodes, std::uint64_t granules);

  /// Whether a record can be added without more nodes.
  bool HasRoom() const;
  /// The bytes of the nodes, from the first, that are to be backed by memory next.
  std::span<std::byte> NextRoom() const;
  /// They are.
  void AddRoom(std::span<std::byte> room);

  /// Fetches what Find() needs first.
  void Prefetch(std::uint64_t granule) const { __builtin_prefetch(&heads_[granule / kLeaf]); }

  /// The record of the block that starts there.
  Place Find(std::uint64_t granule) const;

  /// Gives the block that starts there a record, with the next serial number. Nothing if the records are
  /// damaged.
  std::optional<Record> Add(std::uint64_t granule, std::uint32_t owner, std::uint32_t tag);

  /// Removes a record that was found, and which nothing was added or removed since.
  void Remove(const Place& place);

  /// Frees the blocks that have no record, and removes the records that have no block. Counts the blocks of
  /// each owner. Can be stopped and called again.
  void Repair(Books& books, std::uint32_t tags, std::span<std::uint32_t> by_owner);

  /// Recomputes everything and changes nothing. Counts the blocks of each owner.
  RecordDifferences Check(const Books& books, std::uint32_t tags, std::span<std::uint32_t> by_owner) const;

 private:
  static constexpr std::size_t kEntries = 7;
  /// Nodes that one leaf can come to have.
  static constexpr std::size_t kMostNodes = (kLeaf + kEntries - 1) / kEntries;

  struct Node {
    std::uint32_t next;
    std::uint32_t mark;  ///< Not 0 once a repair has found it in a list.
    std::uint64_t entries[kEntries];
  };

  /// Whether there can be a node of this number, which counts from 1.
  bool IsNode(std::uint32_t number) const;
  Node& NodeAt(std::uint32_t number) const { return nodes_[number - 1]; }
  void Unlink(std::uint32_t* link);
  std::uint64_t RepairLeaf(std::uint64_t leaf, std::uint64_t blocks, std::uint32_t tags,
                           std::span<std::uint32_t> by_owner);

  RecordState* state_ = nullptr;
  std::uint32_t* heads_ = nullptr;
  Node* nodes_ = nullptr;
  std::uint64_t leaves_ = 0;
  std::uint64_t most_ = 0;  ///< Nodes.
};

}  // namespace iospace::arena
