/// What the books of an arena are measured against: a linear first fit, and the algorithms of OffsetAllocator
/// and of TLSF, all with their records outside of the arena.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

constexpr std::uint32_t kNone = ~std::uint32_t{0};

/// First fit over a bitmap, word by word from its start: the bitmap_find_next_zero_area of Linux.
class Linear {
 public:
  explicit Linear(std::uint32_t granules) : granules_(granules), words_(granules / 64 + 2) {}

  std::uint32_t Allocate(std::uint32_t length) {
    for (std::uint32_t start = Next(0, ~std::uint64_t{0}); start + length <= granules_;) {
      const std::uint32_t used = Next(start, 0, start + length);
      if (used >= start + length) {
        Set(start, length, true);
        return start;
      }
      start = Next(used, ~std::uint64_t{0});
    }
    return kNone;
  }

  void Free(std::uint32_t start, std::uint32_t length) { Set(start, length, false); }

 private:
  /// The first granule whose bit, flipped or not, is one.
  std::uint32_t Next(std::uint32_t from, std::uint64_t flip, std::uint32_t end = kNone) const {
    if (end > granules_) end = granules_;
    if (from >= end) return end;
    std::uint32_t index = from / 64;
    std::uint64_t bits = (words_[index] ^ flip) & ~std::uint64_t{0} << from % 64;
    while (bits == 0) {
      if (++index * 64 >= end) return end;
      bits = words_[index] ^ flip;
    }
    const auto at = index * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
    return at < end ? at : end;
  }

  void Set(std::uint32_t start, std::uint32_t length, bool used) {
    const std::uint32_t end = start + length;
    for (std::uint32_t at = start; at < end;) {
      const std::uint32_t stop = end < (at / 64 + 1) * 64 ? end : (at / 64 + 1) * 64;
      const std::uint32_t count = stop - at;
      const std::uint64_t mask = (count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1)
                                 << at % 64;
      words_[at / 64] = used ? words_[at / 64] | mask : words_[at / 64] & ~mask;
      at = stop;
    }
  }

  std::uint32_t granules_;
  std::vector<std::uint64_t> words_;
};

/// OffsetAllocator's: 256 bins whose sizes are floats of 3 bits of mantissa, found in two bit-fields; nodes
/// in a pool, linked to their neighbours in the arena and in their bin.
class Bins {
 public:
  explicit Bins(std::uint32_t granules) : nodes_(granules), at_(granules, kNone) {
    unused_.reserve(granules);
    for (std::uint32_t i = granules; i-- > 0;) unused_.push_back(i);
    for (std::uint32_t& head : heads_) head = kNone;
    Insert(0, granules);
  }

  std::uint32_t Allocate(std::uint32_t length) {
    const std::uint32_t least = BinOf(length, true);
    std::uint32_t top = least / 8;
    std::uint32_t leaf = kNone;
    if ((tops_ >> top & 1) != 0) leaf = LowestFrom(leaves_[top], least % 8);
    if (leaf == kNone) {
      top = top + 1 < 32 ? LowestFrom(tops_, top + 1) : kNone;
      if (top == kNone) return kNone;
      leaf = static_cast<std::uint32_t>(std::countr_zero(static_cast<std::uint32_t>(leaves_[top])));
    }
    const std::uint32_t index = heads_[top * 8 + leaf];
    Unlink(index);
    const std::uint32_t rest = nodes_[index].size - length;
    nodes_[index].size = length;
    nodes_[index].used = true;
    if (rest > 0) {
      const std::uint32_t added = Insert(nodes_[index].offset + length, rest);
      const std::uint32_t next = nodes_[index].next;
      if (next != kNone) nodes_[next].previous = added;
      nodes_[added].previous = index;
      nodes_[added].next = next;
      nodes_[index].next = added;
    }
    // The original answers with the node too; here, as elsewhere, the start alone has to do.
    at_[nodes_[index].offset] = index;
    return nodes_[index].offset;
  }

  void Free(std::uint32_t start, std::uint32_t) {
    const std::uint32_t index = at_[start];
    const Node& node = nodes_[index];
    std::uint32_t offset = node.offset;
    std::uint32_t size = node.size;
    std::uint32_t previous = node.previous;
    std::uint32_t next = node.next;
    if (previous != kNone && !nodes_[previous].used) {
      offset = nodes_[previous].offset;
      size += nodes_[previous].size;
      const std::uint32_t merged = previous;
      previous = nodes_[merged].previous;
      Unlink(merged);
      unused_.push_back(merged);
    }
    if (next != kNone && !nodes_[next].used) {
      size += nodes_[next].size;
      const std::uint32_t merged = next;
      next = nodes_[merged].next;
      Unlink(merged);
      unused_.push_back(merged);
    }
    unused_.push_back(index);
    const std::uint32_t added = Insert(offset, size);
    nodes_[added].previous = previous;
    nodes_[added].next = next;
    if (previous != kNone) nodes_[previous].next = added;
    if (next != kNone) nodes_[next].previous = added;
  }

 private:
  struct Node {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
    std::uint32_t bin_previous = kNone;
    std::uint32_t bin_next = kNone;
    std::uint32_t previous = kNone;
    std::uint32_t next = kNone;
    bool used = false;
  };

  static std::uint32_t BinOf(std::uint32_t size, bool up) {
    if (size < 8) return size;
    const auto shift = static_cast<std::uint32_t>(std::bit_width(size)) - 4;
    const std::uint32_t bin = ((shift + 1) << 3) + ((size >> shift) & 7);
    return bin + static_cast<std::uint32_t>(up && (size & ((1U << shift) - 1)) != 0);
  }

  static std::uint32_t LowestFrom(std::uint32_t bits, std::uint32_t from) {
    bits &= ~std::uint32_t{0} << from;
    return bits == 0 ? kNone : static_cast<std::uint32_t>(std::countr_zero(bits));
  }

  std::uint32_t Insert(std::uint32_t offset, std::uint32_t size) {
    const std::uint32_t bin = BinOf(size, false);
    if (heads_[bin] == kNone) {
      leaves_[bin / 8] = static_cast<std::uint8_t>(leaves_[bin / 8] | 1U << bin % 8);
      tops_ |= 1U << bin / 8;
    }
    const std::uint32_t index = unused_.back();
    unused_.pop_back();
    nodes_[index] = Node{offset, size, kNone, heads_[bin], kNone, kNone, false};
    if (heads_[bin] != kNone) nodes_[heads_[bin]].bin_previous = index;
    heads_[bin] = index;
    return index;
  }

  void Unlink(std::uint32_t index) {
    const Node& node = nodes_[index];
    if (node.bin_next != kNone) nodes_[node.bin_next].bin_previous = node.bin_previous;
    if (node.bin_previous != kNone) {
      nodes_[node.bin_previous].bin_next = node.bin_next;
      return;
    }
    const std::uint32_t bin = BinOf(node.size, false);
    heads_[bin] = node.bin_next;
    if (heads_[bin] != kNone) return;
    leaves_[bin / 8] = static_cast<std::uint8_t>(leaves_[bin / 8] & ~(1U << bin % 8));
    if (leaves_[bin / 8] == 0) tops_ &= ~(1U << bin / 8);
  }

  std::uint32_t tops_ = 0;
  std::uint8_t leaves_[32] = {};
  std::uint32_t heads_[256];
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> unused_;
  std::vector<std::uint32_t> at_;
};

/// TLSF's: lists of 32 classes in 32 parts, found by two bit scans; a record for each granule, in which a
/// run's first has its length and links, and its last where it starts.
class Segregated {
 public:
  explicit Segregated(std::uint32_t granules) : granules_(granules), records_(granules + 1) {
    for (auto& row : heads_) {
      for (std::uint32_t& head : row) head = kNone;
    }
    Insert(0, granules);
  }

  std::uint32_t Allocate(std::uint32_t length) {
    // Up to the next part, so that any run of it is long enough.
    std::uint32_t wanted = length;
    if (length >= 32) wanted += (1U << (std::bit_width(length) - 6)) - 1;
    auto [first, second] = ClassOf(wanted);
    std::uint32_t parts = seconds_[first] & ~std::uint32_t{0} << second;
    if (parts == 0) {
      const std::uint32_t rows = first + 1 < 32 ? firsts_ & ~std::uint32_t{0} << (first + 1) : 0;
      if (rows == 0) return kNone;
      first = static_cast<std::uint32_t>(std::countr_zero(rows));
      parts = seconds_[first];
    }
    const std::uint32_t start = heads_[first][std::countr_zero(parts)];
    const std::uint32_t size = records_[start].length;
    Remove(start, size);
    if (size > length) Insert(start + length, size - length);
    records_[start].length = length;
    records_[start].free = false;
    records_[start + length - 1].start = start;
    records_[start + length - 1].free = false;
    return start;
  }

  void Free(std::uint32_t start, std::uint32_t) {
    std::uint32_t length = records_[start].length;
    if (start > 0 && records_[start - 1].free) {
      const std::uint32_t previous = records_[start - 1].start;
      Remove(previous, start - previous);
      length += start - previous;
      start = previous;
    }
    const std::uint32_t next = start + length;
    if (next < granules_ && records_[next].free) {
      const std::uint32_t more = records_[next].length;
      Remove(next, more);
      length += more;
    }
    Insert(start, length);
  }

 private:
  struct Record {
    std::uint32_t length : 31 = 0;
    std::uint32_t free : 1 = 0;
    std::uint32_t start = 0;
    std::uint32_t previous = kNone;
    std::uint32_t next = kNone;
  };
  struct Class {
    std::uint32_t first;
    std::uint32_t second;
  };

  static Class ClassOf(std::uint32_t length) {
    if (length < 32) return {0, length};
    const auto width = static_cast<std::uint32_t>(std::bit_width(length));
    return {width - 5, (length >> (width - 6)) & 31};
  }

  void Insert(std::uint32_t start, std::uint32_t length) {
    const auto [first, second] = ClassOf(length);
    std::uint32_t& head = heads_[first][second];
    records_[start].length = length;
    records_[start].free = true;
    records_[start].previous = kNone;
    records_[start].next = head;
    records_[start + length - 1].start = start;
    records_[start + length - 1].free = true;
    if (head != kNone) records_[head].previous = start;
    head = start;
    firsts_ |= 1U << first;
    seconds_[first] |= 1U << second;
  }

  void Remove(std::uint32_t start, std::uint32_t length) {
    const Record& record = records_[start];
    if (record.next != kNone) records_[record.next].previous = record.previous;
    if (record.previous != kNone) {
      records_[record.previous].next = record.next;
      return;
    }
    const auto [first, second] = ClassOf(length);
    heads_[first][second] = record.next;
    if (record.next != kNone) return;
    seconds_[first] &= ~(1U << second);
    if (seconds_[first] == 0) firsts_ &= ~(1U << first);
  }

  std::uint32_t granules_;
  std::vector<Record> records_;
  std::uint32_t firsts_ = 0;
  std::uint32_t seconds_[32] = {};
  std::uint32_t heads_[32][32];
};
