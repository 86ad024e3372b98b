#include "arena_records.h"

#include <algorithm>
#include <array>
#include <bit>

#include "arena_writes.h"

namespace iospace::arena {
namespace {

// An entry: 6 bits granule in its leaf, 10 owner, 12 tag, 4 zero, 32 serial. Zero is none.
constexpr std::uint64_t Pack(std::uint64_t granule, const Record& record) {
  return granule % kLeaf | static_cast<std::uint64_t>(record.owner) << 6 |
         static_cast<std::uint64_t>(record.tag) << 16 | static_cast<std::uint64_t>(record.serial) << 32;
}
constexpr std::uint64_t GranuleOf(std::uint64_t entry) {
  return entry & (kLeaf - 1);
}
constexpr Record RecordOf(std::uint64_t entry) {
  return {static_cast<std::uint32_t>(entry >> 6) & kMostOwners,
          static_cast<std::uint32_t>(entry >> 16) & kMostTags, static_cast<std::uint32_t>(entry >> 32)};
}
constexpr bool IsPossible(const Record& record) {
  return record.owner != 0 && record.serial != 0;
}

constexpr std::uint64_t LeavesOf(std::uint64_t granules) {
  return (granules + kLeaf - 1) / kLeaf;
}

}  // namespace

std::uint64_t Records::HeadBytes(std::uint64_t granules) {
  return LeavesOf(granules) * sizeof(std::uint32_t);
}

std::uint64_t Records::NodeBytes(std::uint64_t granules) {
  return LeavesOf(granules) * kMostNodes * sizeof(Node);
}

Records::Records(RecordState* state, std::byte* heads, std::byte* nodes, std::uint64_t granules)
    : state_(state),
      heads_(reinterpret_cast<std::uint32_t*>(heads)),
      nodes_(reinterpret_cast<Node*>(nodes)),
      leaves_(LeavesOf(granules)),
      most_(leaves_ * kMostNodes) {
  static_assert(sizeof(Node) == kNodeBytes);
}

bool Records::IsNode(std::uint32_t number) const {
  return number != 0 && number <= std::min<std::uint64_t>(state_->used, most_);
}

bool Records::HasRoom() const {
  return state_->free != 0 || state_->used < state_->capacity || state_->capacity >= most_;
}

std::span<std::byte> Records::NextRoom() const {
  // An eighth more, so that a record costs no system call, and few bytes more than it needs.
  constexpr std::uint64_t kLeast = 64;
  constexpr std::uint64_t kMost = 16384;
  const std::uint64_t capacity = std::min<std::uint64_t>(state_->capacity, most_);
  const std::uint64_t more = std::min(std::clamp(capacity / 8, kLeast, kMost), most_ - capacity);
  return {reinterpret_cast<std::byte*>(nodes_ + capacity), static_cast<std::size_t>(more) * sizeof(Node)};
}

void Records::AddRoom(std::span<std::byte> room) {
  const auto end = reinterpret_cast<Node*>(room.data() + room.size());
  Note(state_->capacity, static_cast<std::uint32_t>(end - nodes_));
}

Records::Place Records::Find(std::uint64_t granule) const {
  using State = Place::State;
  std::uint32_t* link = &heads_[granule / kLeaf];
  for (std::size_t count = 0; *link != 0; ++count) {
    if (count == kMostNodes || !IsNode(*link)) return {State::kDamaged, {}};
    Node& node = NodeAt(*link);
    for (std::uint64_t& entry : node.entries) {
      if (entry == 0 || GranuleOf(entry) != granule % kLeaf) continue;
      const Record record = RecordOf(entry);
      return {IsPossible(record) ? State::kFound : State::kDamaged, record, link, &entry};
    }
    link = &node.next;
  }
  return {};
}

std::optional<Record> Records::Add(std::uint64_t granule, std::uint32_t owner, std::uint32_t tag) {
  const std::uint32_t serial = std::max(state_->serial + 1, 1U);
  const Record record{owner, tag, serial};
  std::uint32_t& head = heads_[granule / kLeaf];
  std::size_t count = 0;
  for (std::uint32_t number = head; number != 0; number = NodeAt(number).next) {
    if (count++ == kMostNodes || !IsNode(number)) return std::nullopt;
    for (std::uint64_t& entry : NodeAt(number).entries) {
      if (entry != 0) continue;
      Note(state_->serial, serial);
      Write(entry, Pack(granule, record));
      return record;
    }
  }
  const std::uint32_t used = state_->used;
  const std::uint32_t number = state_->free != 0 ? state_->free : used + 1;
  if (state_->free != 0) {
    if (!IsNode(number)) return std::nullopt;
    Note(state_->free, NodeAt(number).next);
  } else {
    if (used >= std::min<std::uint64_t>(state_->capacity, most_)) return std::nullopt;
    Note(state_->used, number);
  }
  Note(state_->serial, serial);
  Node& node = NodeAt(number);
  Note(node, Node{head, 0, {Pack(granule, record)}});
  Write(head, number);
  return record;
}

/// Takes the node that the link leads to out of its list.
void Records::Unlink(std::uint32_t* link) {
  Write(*link, NodeAt(*link).next);
}

void Records::Remove(const Place& place) {
  const std::uint32_t number = *place.link;
  Node& node = NodeAt(number);
  Write(*place.entry, std::uint64_t{0});
  std::uint64_t all = 0;
  for (const std::uint64_t entry : node.entries) all |= entry;
  if (all != 0) return;
  Unlink(place.link);
  Note(node.next, state_->free);
  Note(state_->free, number);
}

/// Leaves in the lists of a leaf only what belongs to `blocks`, and says which of these have a record.
std::uint64_t Records::RepairLeaf(std::uint64_t leaf, std::uint64_t blocks, std::uint32_t tags,
                                  std::span<std::uint32_t> by_owner) {
  std::uint64_t seen = 0;
  std::uint32_t* link = &heads_[leaf];
  for (std::size_t count = 0; *link != 0; ++count) {
    // No stop leads here: others have written where they should not.
    if (count == kMostNodes || !IsNode(*link) || NodeAt(*link).mark != 0) {
      Write(*link, std::uint32_t{0});
      break;
    }
    Node& node = NodeAt(*link);
    bool is_empty = true;
    for (std::uint64_t& entry : node.entries) {
      if (entry == 0) continue;
      const Record record = RecordOf(entry);
      const std::uint64_t bit = std::uint64_t{1} << GranuleOf(entry);
      if ((blocks & ~seen & bit) == 0 || !IsPossible(record)) {
        Write(entry, std::uint64_t{0});
        continue;
      }
      if (record.tag > tags) Write(entry, Pack(GranuleOf(entry), {record.owner, 0, record.serial}));
      seen |= bit;
      ++by_owner[record.owner];
      is_empty = false;
    }
    if (is_empty) {
      Unlink(link);
      continue;
    }
    Note(node.mark, 1U);
    link = &node.next;
  }
  return seen;
}

void Records::Repair(Books& books, std::uint32_t tags, std::span<std::uint32_t> by_owner) {
  if (state_->capacity > most_) Note(state_->capacity, static_cast<std::uint32_t>(most_));
  if (state_->used > state_->capacity) Note(state_->used, state_->capacity);
  for (std::uint32_t number = 1; number <= state_->used; ++number) {
    if (NodeAt(number).mark != 0) Note(NodeAt(number).mark, 0U);
  }
  for (std::uint64_t leaf = 0; leaf < leaves_; ++leaf) {
    const std::uint64_t blocks = books.BlocksIn(leaf);
    std::uint64_t missing = blocks & ~RepairLeaf(leaf, blocks, tags, by_owner);
    for (; missing != 0; missing &= missing - 1) {
      books.Free(leaf * kLeaf + static_cast<std::uint64_t>(std::countr_zero(missing)));
    }
  }
  // From the end, so that the lowest are taken first.
  Note(state_->free, std::uint32_t{0});
  for (std::uint32_t number = state_->used; number > 0; --number) {
    Node& node = NodeAt(number);
    if (node.mark != 0) continue;
    Note(node.next, state_->free);
    Note(state_->free, number);
  }
}

RecordDifferences Records::Check(const Books& books, std::uint32_t tags,
                                 std::span<std::uint32_t> by_owner) const {
  RecordDifferences differences;
  const auto report = [&differences](RecordPart part, std::uint64_t index, std::uint64_t expected,
                                     std::uint64_t found) {
    if (differences.count++ == 0) differences = {1, part, index, expected, found};
  };
  const std::uint64_t capacity = std::min<std::uint64_t>(state_->capacity, most_);
  const std::uint64_t used = std::min<std::uint64_t>(state_->used, capacity);
  if (state_->capacity != capacity) report(RecordPart::kNodes, 0, capacity, state_->capacity);
  if (state_->used != used) report(RecordPart::kNodes, 0, used, state_->used);
  std::vector<bool> seen(used + 1);
  const auto is_new = [&](std::uint32_t number) {
    if (number == 0 || number > used || seen[number]) return false;
    seen[number] = true;
    return true;
  };

  for (std::uint64_t leaf = 0; leaf < leaves_; ++leaf) {
    const std::uint64_t blocks = books.BlocksIn(leaf);
    std::uint64_t recorded = 0;
    std::size_t count = 0;
    for (std::uint32_t number = heads_[leaf]; number != 0; number = NodeAt(number).next) {
      if (count++ == kMostNodes || !is_new(number)) {
        report(RecordPart::kHeads, leaf, 0, number);
        break;
      }
      std::uint64_t entries = 0;
      for (const std::uint64_t entry : NodeAt(number).entries) {
        if (entry == 0) continue;
        ++entries;
        const Record record = RecordOf(entry);
        const std::uint64_t granule = leaf * kLeaf + GranuleOf(entry);
        const std::uint64_t bit = std::uint64_t{1} << GranuleOf(entry);
        if ((blocks & bit) == 0 || (recorded & bit) != 0 || !IsPossible(record)) {
          report(RecordPart::kEntries, granule, 0, entry);
          continue;
        }
        recorded |= bit;
        ++by_owner[record.owner];
        if (record.tag > tags) report(RecordPart::kTags, granule, tags, record.tag);
      }
      if (entries == 0) report(RecordPart::kNodes, number, 1, 0);
    }
    if (recorded != blocks) report(RecordPart::kEntries, leaf * kLeaf, blocks, recorded);
  }

  for (std::uint32_t number = state_->free; number != 0; number = NodeAt(number).next) {
    if (!is_new(number)) {
      report(RecordPart::kNodes, number, 0, number);
      break;
    }
  }
  for (std::uint64_t number = 1; number <= used; ++number) {
    if (!seen[number]) report(RecordPart::kNodes, number, 1, 0);
  }
  return differences;
}

}  // namespace iospace::arena
