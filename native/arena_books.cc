#include "arena_books.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "arena_writes.h"

namespace iospace::arena {
namespace {

constexpr std::uint64_t kMagic = 0x3161'6e65'7261'6f69;  // "ioarena1"
constexpr std::uint32_t kVersion = 1;
/// Byte order and word size: the layout has no others. Another C library may come to matter with a lock
/// beside it.
constexpr std::uint32_t kAbi =
    (std::endian::native == std::endian::little ? 0x100U : 0x200U) + sizeof(void*) * 8;

constexpr std::uint64_t kBits = 64;
constexpr std::uint64_t kAll = ~std::uint64_t{0};
constexpr std::uint64_t kFan = 16;
/// Exact fits of longer runs keep large ones from fitting: with 64 granules 0.2 points more of them fail at
/// 80 % fill, and with 16 one in a hundred of small runs at 93 %.
constexpr std::uint64_t kLongestBin = 32;
constexpr std::uint64_t kMostGranules = std::uint64_t{1} << 30;
constexpr std::uint64_t kLine = 64;

constexpr std::uint64_t DivideUp(std::uint64_t value, std::uint64_t by) {
  return (value + by - 1) / by;
}
constexpr std::uint64_t RoundUp(std::uint64_t value, std::uint64_t to) {
  return DivideUp(value, to) * to;
}

constexpr std::uint64_t Ones(std::uint64_t count) {
  return count == kBits ? kAll : (std::uint64_t{1} << count) - 1;
}

/// The part of [start, end) that lies in this word.
constexpr std::uint64_t Mask(std::uint64_t word, std::uint64_t start, std::uint64_t end) {
  const std::uint64_t low = std::max(start, word * kBits) - word * kBits;
  const std::uint64_t high = std::min(end, (word + 1) * kBits) - word * kBits;
  return Ones(high - low) << low;
}

constexpr std::uint64_t Ctz(std::uint64_t bits) {
  return static_cast<std::uint64_t>(std::countr_zero(bits));
}
constexpr std::uint64_t Clz(std::uint64_t bits) {
  return static_cast<std::uint64_t>(std::countl_zero(bits));
}

/// 64 bits of two words that follow each other, from bit `from` of the lower: no branch, since any run may
/// cross a word.
constexpr std::uint64_t Window(std::uint64_t low, std::uint64_t high, std::uint64_t from) {
  return low >> from | high << 1 << (kBits - 1 - from);
}

/// Those of `used` that can be reached from `seeds` going up through used granules.
std::uint64_t Reach(std::uint64_t seeds, std::uint64_t used) {
  for (unsigned step = 1; step < kBits; step *= 2) {
    seeds |= used & (seeds << step);
    used &= used << step;
  }
  return seeds;
}

/// Which of the 16 nodes are at least so long, from the lowest bit.
std::uint32_t AtLeast(const std::uint32_t* nodes, std::uint32_t length) {
  std::uint32_t mask = 0;
  for (std::uint32_t i = 0; i < kFan; ++i) mask |= static_cast<std::uint32_t>(nodes[i] >= length) << i;
  return mask;
}

std::uint32_t Largest(const std::uint32_t* nodes) {
  std::uint32_t largest = 0;
  for (std::uint32_t i = 0; i < kFan; ++i) largest = std::max(largest, nodes[i]);
  return largest;
}

/// Without popcount, which is a call on the oldest x86-64.
constexpr bool IsPower(std::uint64_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

constexpr bool IsPossible(const Shape& shape) {
  return IsPower(shape.granule) && shape.granule >= 64 && shape.granules > 0 &&
         shape.granules <= kMostGranules && shape.granule <= (std::uint64_t{1} << 62) / kMostGranules;
}

constexpr std::uint64_t Up(std::uint64_t address, std::uint64_t align) {
  return (address + align - 1) & ~(align - 1);
}

constexpr std::uint64_t kNowhere = kAll;

/// The first granule from `from` on at which the request's constraints hold.
std::uint64_t Fit(const Request& request, std::uint64_t granule, std::uint64_t from) {
  const std::uint64_t bytes = request.length * granule;
  std::uint64_t at = from;
  for (int moved = 0; moved < 2; ++moved) {
    std::uint64_t address = request.base + at * granule;
    at += (Up(address, request.align) - address) / granule;
    if (request.boundary == 0) return at;
    address = request.base + at * granule;
    const std::uint64_t next = Up(address + 1, request.boundary);
    if (next - address >= bytes) return at;
    at += DivideUp(next - address, granule);
  }
  return kNowhere;
}

bool IsConstrained(const Request& request, std::uint64_t granule) {
  return request.align > granule || request.boundary != 0;
}

bool IsPossible(const Request& request, const Shape& shape) {
  const bool numbers =
      request.length > 0 && IsPower(request.align) && (request.boundary == 0 || IsPower(request.boundary));
  if (!numbers || request.base > (std::uint64_t{1} << 63)) return false;
  if ((request.base & (std::min(request.align, shape.granule) - 1)) != 0) return false;
  if (request.boundary == 0 || request.length > shape.granules) return true;
  const std::uint64_t bytes = request.length * shape.granule;
  if (bytes > request.boundary) return false;
  // Where addresses are not multiples of a granule, a block that fills its boundary would have to be.
  return request.boundary < shape.granule || request.base % shape.granule == 0 ||
         bytes + request.base % shape.granule <= request.boundary;
}

}  // namespace

struct Books::Header {
  // Never changes after Create().
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t abi;
  std::uint64_t granule;
  std::uint64_t granules;
  std::uint64_t size;
  std::uint64_t reserved[2];
  std::uint64_t checksum;  ///< Of everything before it.
  // Changes with each call.
  std::uint64_t operation;  ///< 1 from the first write of a call to its last.
  std::uint64_t used;
  std::uint64_t blocks;
  std::uint64_t most_used;
  std::uint64_t reserved_too[4];
};

/// Where each part lies, from the start of the books.
struct Books::Layout {
  explicit Layout(const Shape& shape);

  std::uint64_t word_count = 0;
  std::uint64_t words = 0;
  std::array<std::uint64_t, kMostLevels> levels{};
  std::array<std::uint64_t, kMostLevels> level_words{};
  std::size_t level_count = 0;
  std::array<std::uint64_t, kMostTiers> tiers{};
  std::array<std::uint64_t, kMostTiers> tier_nodes{};
  std::size_t tier_count = 0;
  std::uint64_t bins = 0;
  std::uint64_t places = 0;
  std::uint64_t capacity = 0;
  std::uint64_t size = 0;
};

Books::Layout::Layout(const Shape& shape) : word_count(DivideUp(shape.granules, kBits)) {
  static_assert(sizeof(Header) == 2 * kLine && sizeof(Word) == 16 && sizeof(Bin) == 8);
  std::uint64_t at = sizeof(Header);
  const auto take = [&at](std::uint64_t bytes) {
    const std::uint64_t place = at;
    at += bytes;
    return place;
  };
  words = take((word_count + 1) * sizeof(Word));
  for (std::uint64_t bits = word_count + 1; bits > 1; bits = level_words[level_count++]) {
    level_words[level_count] = DivideUp(bits, kBits);
    levels[level_count] = take(level_words[level_count] * sizeof(std::uint64_t));
  }
  at = RoundUp(at, kLine);
  std::uint64_t nodes = word_count;
  do {
    tier_nodes[tier_count] = RoundUp(nodes, kFan);
    tiers[tier_count] = take(tier_nodes[tier_count] * sizeof(std::uint32_t));
    nodes = tier_nodes[tier_count++] / kFan;
  } while (nodes > 1);
  bins = take(kLongestBin * sizeof(Bin));
  // Enough for the runs of each length that were seen in arenas nearly full, and 0.003 % of the arena.
  capacity = std::bit_ceil(std::clamp<std::uint64_t>(shape.granules / 2048, 4, 1024));
  places = take(kLongestBin * capacity * sizeof(std::uint32_t));
  size = RoundUp(at, kLine);
}

std::size_t Books::SizeFor(const Shape& shape) {
  return IsPossible(shape) ? Layout(shape).size : 0;
}

Books::Books(std::span<std::byte> memory, const Shape& shape) : shape_(shape) {
  const Layout layout(shape);
  std::byte* const base = memory.data();
  header_ = reinterpret_cast<Header*>(base);
  words_ = reinterpret_cast<Word*>(base + layout.words);
  word_count_ = layout.word_count;
  level_count_ = layout.level_count;
  level_words_ = layout.level_words;
  for (std::size_t i = 0; i < level_count_; ++i) {
    levels_[i] = reinterpret_cast<std::uint64_t*>(base + layout.levels[i]);
  }
  tier_count_ = layout.tier_count;
  tier_nodes_ = layout.tier_nodes;
  for (std::size_t i = 0; i < tier_count_; ++i) {
    tiers_[i] = reinterpret_cast<std::uint32_t*>(base + layout.tiers[i]);
  }
  bins_ = reinterpret_cast<Bin*>(base + layout.bins);
  places_ = reinterpret_cast<std::uint32_t*>(base + layout.places);
  capacity_ = static_cast<std::uint32_t>(layout.capacity);
}

std::variant<Books, Damage> Books::Create(std::span<std::byte> memory, const Shape& shape) {
  const std::size_t size = SizeFor(shape);
  if (size == 0) return Damage::kShape;
  if (memory.size() < size) return Damage::kSize;
  Books books(memory, shape);
  Header header{};
  header.version = kVersion;
  header.abi = kAbi;
  header.granule = shape.granule;
  header.granules = shape.granules;
  header.size = size;
  header.magic = kMagic;
  header.checksum = Checksum(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)));
  // The magic comes last: books that were not finished are none.
  header.magic = 0;
  std::memcpy(books.header_, &header, sizeof header);
  books.Repair();
  Write(books.header_->magic, kMagic);
  return books;
}

std::variant<Books, Damage> Books::Attach(std::span<std::byte> memory) {
  if (memory.size() < sizeof(Header)) return Damage::kSize;
  const auto& header = *reinterpret_cast<const Header*>(memory.data());
  if (header.magic != kMagic) return Damage::kMagic;
  if (header.version != kVersion) return Damage::kVersion;
  if (header.abi != kAbi) return Damage::kAbi;
  if (header.checksum != Checksum(memory.first(offsetof(Header, checksum)))) return Damage::kChecksum;
  const Shape shape{header.granule, header.granules};
  const std::size_t size = SizeFor(shape);
  if (size == 0) return Damage::kShape;
  if (header.size != size || memory.size() < size) return Damage::kSize;
  return Books(memory, shape);
}

void Books::Begin() {
  Write(header_->operation, std::uint64_t{1});
}
void Books::End() {
  Write(header_->operation, std::uint64_t{0});
}

/// The first used granule from there on. The end of the arena counts as one.
std::uint64_t Books::NextUsed(std::uint64_t granule) const {
  std::uint64_t index = granule / kBits;
  if (index == word_count_) return shape_.granules;
  std::uint64_t bits = Window(words_[index].used, words_[index + 1].used, granule % kBits);
  if (bits != 0) return std::min(granule + Ctz(bits), shape_.granules);
  if (words_[index + 1].used != 0) return (index + 1) * kBits + Ctz(words_[index + 1].used);
  // Up to a level that has one beyond, and down again.
  std::size_t level = 0;
  for (;; ++level) {
    ++index;
    if (level == level_count_ || index / kBits >= level_words_[level]) return shape_.granules;
    bits = levels_[level][index / kBits] >> index % kBits;
    if (bits != 0) break;
    index /= kBits;
  }
  index += Ctz(bits);
  // What others write may be wrong: a level that leads nowhere leads to the end.
  while (level-- > 0) {
    if (index >= level_words_[level]) return shape_.granules;
    index = index * kBits + Ctz(levels_[level][index]);
  }
  return index >= word_count_ ? shape_.granules
                              : std::min(index * kBits + Ctz(words_[index].used), shape_.granules);
}

/// The start of the free run that ends there; the same granule, if the one before it is used.
std::uint64_t Books::RunStart(std::uint64_t end) const {
  std::uint64_t index = end / kBits;
  if (index == 0) return end - std::min(end, Clz(Window(0, words_[0].used, end)));
  const std::uint64_t near = Window(words_[index - 1].used, words_[index].used, end % kBits);
  if (near != 0) return end - Clz(near);
  if (words_[index - 1].used != 0) return index * kBits - Clz(words_[index - 1].used);
  std::size_t level = 0;
  for (;; ++level) {
    if (level == level_count_) return 0;
    if (index % kBits != 0) {
      const std::uint64_t bits = levels_[level][index / kBits] << (kBits - index % kBits);
      if (bits != 0) {
        index -= Clz(bits) + 1;
        break;
      }
    }
    index /= kBits;
  }
  while (level-- > 0) {
    if (levels_[level][index] == 0) return end;
    index = index * kBits + kBits - 1 - Clz(levels_[level][index]);
  }
  return (index + 1) * kBits - Clz(words_[index].used);
}

/// Where the block ends that starts there.
std::uint64_t Books::BlockEnd(std::uint64_t start) const {
  // What ends a block: a granule that is free, or the start of the next.
  const auto ends = [this](std::uint64_t index) { return ~words_[index].used | words_[index].starts; };
  const std::uint64_t first = start + 1;
  std::uint64_t index = first / kBits;
  if (index == word_count_) return shape_.granules;
  std::uint64_t bits = Window(ends(index), ends(index + 1), first % kBits);
  if (bits != 0) return std::min(first + Ctz(bits), shape_.granules);
  while (bits == 0 && index < word_count_) bits = ends(++index);
  return bits == 0 ? shape_.granules : std::min(index * kBits + Ctz(bits), shape_.granules);
}

/// Whether there is a free run of just that length, at most 63.
bool Books::IsRun(std::uint64_t start, std::uint64_t length) const {
  if (start + length > shape_.granules) return false;
  const std::uint64_t index = start / kBits;
  const std::uint64_t bits = Window(words_[index].used, words_[index + 1].used, start % kBits);
  if (bits == 0 || Ctz(bits) != length) return false;
  return start == 0 || (words_[(start - 1) / kBits].used >> (start - 1) % kBits & 1) != 0;
}

void Books::Mark(std::uint64_t start, std::uint64_t length) {
  const std::uint64_t end = start + length;
  const std::uint64_t first = start / kBits;
  const std::uint64_t last = (end - 1) / kBits;
  Word& word = words_[first];
  Write(word.starts, word.starts | std::uint64_t{1} << start % kBits);
  if (length <= kBits) {
    // At most two words. The second is written even if nothing of it changes: no branch.
    Word& second = words_[first + 1];
    const std::uint64_t bits = Ones(length);
    const std::uint64_t was_empty = static_cast<std::uint64_t>(word.used == 0) |
                                    (static_cast<std::uint64_t>(second.used == 0) & (last - first));
    Write(second.used, second.used | bits >> 1 >> (kBits - 1 - start % kBits));
    Write(word.used, word.used | bits << start % kBits);
    if (was_empty != 0) Occupy(first, last);
    return;
  }
  for (std::uint64_t index = first + 1; index <= last; ++index) {
    Write(words_[index].used, words_[index].used | Mask(index, start, end));
  }
  Write(word.used, word.used | Mask(first, start, end));
  Occupy(first, last);
}

void Books::Clear(std::uint64_t start, std::uint64_t length) {
  const std::uint64_t end = start + length;
  const std::uint64_t first = start / kBits;
  const std::uint64_t last = (end - 1) / kBits;
  Word& word = words_[first];
  Write(word.used, word.used & ~Mask(first, start, end));
  if (length <= kBits) {
    // As in Mark().
    Word& second = words_[first + 1];
    Write(second.used, second.used & ~(Ones(length) >> 1 >> (kBits - 1 - start % kBits)));
  } else {
    for (std::uint64_t index = first + 1; index <= last; ++index) {
      Write(words_[index].used, words_[index].used & ~Mask(index, start, end));
    }
  }
  Write(word.starts, word.starts & ~(std::uint64_t{1} << start % kBits));
  const std::uint64_t empty = first + static_cast<std::uint64_t>(word.used != 0);
  const std::uint64_t empty_end = last + 1 - static_cast<std::uint64_t>(words_[last].used != 0);
  if (empty < empty_end) Vacate(empty, empty_end - 1);
}

/// Notes in the levels that none of these words is empty.
void Books::Occupy(std::uint64_t first, std::uint64_t last) {
  for (std::size_t level = 0; level < level_count_; ++level) {
    bool was_empty = false;
    for (std::uint64_t index = first / kBits; index <= last / kBits; ++index) {
      std::uint64_t& word = levels_[level][index];
      was_empty |= word == 0;
      const std::uint64_t bits = word | Mask(index, first, last + 1);
      if (bits != word) Note(word, bits);
    }
    if (!was_empty) return;
    first /= kBits;
    last /= kBits;
  }
}

/// Notes in the levels that these words are empty.
void Books::Vacate(std::uint64_t first, std::uint64_t last) {
  for (std::size_t level = 0; level < level_count_; ++level) {
    const std::uint64_t low = first / kBits;
    const std::uint64_t high = last / kBits;
    for (std::uint64_t index = low; index <= high; ++index) {
      Note(levels_[level][index], levels_[level][index] & ~Mask(index, first, last + 1));
    }
    first = low + static_cast<std::uint64_t>(levels_[level][low] != 0);
    const std::uint64_t end = high + 1 - static_cast<std::uint64_t>(levels_[level][high] != 0);
    if (first >= end) return;
    last = end - 1;
  }
}

/// There is a run of that length now, which starts in this leaf.
void Books::Raise(std::uint64_t leaf, std::uint64_t length) {
  const auto value = static_cast<std::uint32_t>(length);
  for (std::size_t tier = 0; tier < tier_count_; ++tier, leaf /= kFan) {
    if (tiers_[tier][leaf] >= value) return;
    Note(tiers_[tier][leaf], value);
  }
}

/// The longest run that starts in this leaf is not so long as the tree says.
void Books::Lower(std::uint64_t leaf, std::uint64_t length) {
  std::uint32_t before = tiers_[0][leaf];
  Note(tiers_[0][leaf], static_cast<std::uint32_t>(length));
  for (std::size_t tier = 1; tier < tier_count_; ++tier) {
    leaf /= kFan;
    // The largest is another.
    if (tiers_[tier][leaf] > before) return;
    const std::uint32_t largest = Largest(tiers_[tier - 1] + leaf * kFan);
    if (largest == before) return;
    before = tiers_[tier][leaf];
    Note(tiers_[tier][leaf], largest);
  }
}

/// The first leaf from there on that may have a run of that length; kNowhere if there is none.
std::uint64_t Books::NextLeaf(std::uint64_t from, std::uint64_t length) const {
  const auto value = static_cast<std::uint32_t>(length);
  // From the first leaf the way is down from the top, from any other up as far as it must be.
  std::size_t tier = from == 0 ? tier_count_ - 1 : 0;
  std::uint64_t index = from;
  for (;; ++tier) {
    if (tier == tier_count_ || index >= tier_nodes_[tier]) return kNowhere;
    const std::uint32_t mask = AtLeast(tiers_[tier] + (index & ~(kFan - 1)), value) & ~std::uint32_t{0}
                                                                                          << index % kFan;
    if (mask != 0) {
      index = (index & ~(kFan - 1)) + Ctz(mask);
      break;
    }
    index = index / kFan + 1;
  }
  while (tier > 0) {
    --tier;
    if (index * kFan >= tier_nodes_[tier]) return kNowhere;
    const std::uint32_t mask = AtLeast(tiers_[tier] + index * kFan, value);
    if (mask == 0) return kNowhere;
    index = index * kFan + Ctz(mask);
  }
  return index < word_count_ ? index : kNowhere;
}

/// Visits the free runs that start in this leaf, until the visitor says that it has enough.
template <typename Visit>
void Books::EachRun(std::uint64_t leaf, Visit visit) const {
  const std::uint64_t used = words_[leaf].used;
  // A run that came in from the leaf before started there.
  const bool comes_in = leaf > 0 && words_[leaf - 1].used >> (kBits - 1) == 0;
  std::uint64_t starts = ~used & (used << 1 | static_cast<std::uint64_t>(!comes_in));
  while (starts != 0) {
    const std::uint64_t bit = Ctz(starts);
    starts &= starts - 1;
    const std::uint64_t rest = used >> bit;
    const std::uint64_t start = leaf * kBits + bit;
    const std::uint64_t end = rest != 0 ? start + Ctz(rest) : NextUsed((leaf + 1) * kBits);
    if (end <= start || end > shape_.granules) return;
    if (visit(Run{start, end})) return;
  }
}

std::uint64_t Books::LongestIn(std::uint64_t leaf) const {
  std::uint64_t longest = 0;
  EachRun(leaf, [&longest](const Run& run) {
    longest = std::max(longest, run.end - run.start);
    return false;
  });
  return longest;
}

/// The longest free run: follows the largest bound until it is true.
std::uint64_t Books::Longest() {
  for (;;) {
    std::uint64_t index = 0;
    for (std::size_t tier = tier_count_; tier-- > 0;) {
      if (index * kFan >= tier_nodes_[tier]) return 0;
      const std::uint32_t* const nodes = tiers_[tier] + index * kFan;
      index = index * kFan + Ctz(AtLeast(nodes, Largest(nodes)));
    }
    const std::uint64_t bound = tiers_[0][index];
    if (bound == 0 || index >= word_count_) return 0;
    const std::uint64_t longest = LongestIn(index);
    if (longest == bound) return longest;
    Lower(index, longest);
  }
}

/// Puts a free run into its bin. A full bin forgets its oldest.
void Books::Remember(std::uint64_t start, std::uint64_t length) {
  if (length == 0 || length > kLongestBin) return;
  Bin& bin = bins_[length - 1];
  Note(places_[(length - 1) * capacity_ + (bin.top & (capacity_ - 1))], static_cast<std::uint32_t>(start));
  Note(bin, Bin{bin.top + 1, std::min(bin.count + 1, capacity_)});
}

/// Takes a run of just the length from its bin, with whatever lies above it and is no such run any more.
Books::Place Books::TakeExact(const Request& request) {
  if (request.length > kLongestBin) return {};
  const std::uint32_t* const places = places_ + (request.length - 1) * capacity_;
  Bin& known = bins_[request.length - 1];
  Bin bin = known;
  bin.count = std::min(bin.count, capacity_);
  Place place;
  while (bin.count > 0) {
    const std::uint64_t start = places[(bin.top - 1) & (capacity_ - 1)];
    const bool is_run = IsRun(start, request.length);
    // One that the constraints exclude stays for others.
    if (is_run && IsConstrained(request, shape_.granule) && Fit(request, shape_.granule, start) != start)
      break;
    bin = Bin{bin.top - 1, bin.count - 1};
    if (is_run) {
      place = Place{true, true, start, Run{start, start + request.length}};
      break;
    }
  }
  if (bin.count != known.count) Note(known, bin);
  return place;
}

/// The first place in runs of at least `length`, from the leaf `from` on, in so many leaves.
Books::Place Books::FirstFit(const Request& request, std::uint64_t length, std::uint64_t& from,
                             std::uint64_t tries) {
  const bool is_constrained = IsConstrained(request, shape_.granule);
  for (; tries > 0; --tries) {
    from = NextLeaf(from, length);
    if (from == kNowhere) return {};
    Place place;
    std::uint64_t longest = 0;
    EachRun(from, [&](const Run& run) {
      longest = std::max(longest, run.end - run.start);
      if (run.end - run.start < request.length) return false;
      const std::uint64_t start = is_constrained ? Fit(request, shape_.granule, run.start) : run.start;
      // kNowhere is beyond any end.
      if (start > run.end - request.length) return false;
      place = Place{true, false, start, run};
      return true;
    });
    if (place.found) return place;
    if (longest < tiers_[0][from]) Lower(from, longest);
    ++from;
  }
  return {};
}

Books::Place Books::Find(const Request& request) {
  if (request.length > shape_.granules) return {};
  const Place exact = TakeExact(request);
  if (exact.found) return exact;
  std::uint64_t from = 0;
  if (!IsConstrained(request, shape_.granule)) return FirstFit(request, request.length, from, kAll);
  // Runs that are long enough may all lie wrong: after some of them, one that fits wherever it lies is
  // sought.
  constexpr std::uint64_t kTries = 32;
  const Place place = FirstFit(request, request.length, from, kTries);
  if (place.found || from == kNowhere) return place;
  const std::uint64_t spare =
      DivideUp(request.align, shape_.granule) + (request.boundary == 0 ? 0 : request.length);
  std::uint64_t beyond = from;
  const Place sure = request.length + spare > shape_.granules
                         ? Place{}
                         : FirstFit(request, request.length + spare, beyond, kAll);
  return sure.found ? sure : FirstFit(request, request.length, from, kAll);
}

Answer Books::Allocate(const Request& request) {
  if (header_->operation != 0) return {Status::kInterrupted};
  if (!IsPossible(request, shape_)) return {Status::kInvalid};
  Begin();
  const Place place = Find(request);
  if (!place.found) {
    const std::uint64_t longest = Longest();
    End();
    return {Status::kNoSpace, 0, longest};
  }
  const std::uint64_t end = place.start + request.length;
  Mark(place.start, request.length);
  if (place.run.end != end) {
    if (end / kBits != place.run.start / kBits) Raise(end / kBits, place.run.end - end);
    Remember(end, place.run.end - end);
  }
  Remember(place.run.start, place.start - place.run.start);
  // Another first fit would be led astray to this leaf, and have it fetched again. An exact fit of a short
  // run seldom leads anybody astray.
  const std::uint64_t leaf = place.run.start / kBits;
  if (!place.is_exact && place.run.end - place.run.start == tiers_[0][leaf]) Lower(leaf, LongestIn(leaf));
  Note(header_->blocks, header_->blocks + 1);
  Note(header_->used, header_->used + request.length);
  if (header_->used > header_->most_used) Note(header_->most_used, header_->used);
  End();
  return {Status::kOk, place.start, request.length};
}

Answer Books::Free(std::uint64_t start, std::uint64_t length) {
  if (header_->operation != 0) return {Status::kInterrupted};
  if (start >= shape_.granules) return {Status::kNotAllocated};
  // What a large arena's caches have not got is fetched at once: the tree is needed when the words have been
  // read.
  __builtin_prefetch(&tiers_[0][start / kBits]);
  const Word& word = words_[start / kBits];
  if (((word.used & word.starts) >> start % kBits & 1) == 0) {
    Answer block = BlockAt(start);
    if (block.status == Status::kOk) block.status = Status::kInside;
    return block;
  }
  const std::uint64_t end = BlockEnd(start);
  const std::uint64_t actual = end - start;
  if (length != 0 && length != actual) return {Status::kWrongLength, start, actual};
  Begin();
  Clear(start, actual);
  const Run run{RunStart(start), NextUsed(end)};
  Raise(run.start / kBits, run.end - run.start);
  Remember(run.start, run.end - run.start);
  Note(header_->blocks, header_->blocks - 1);
  Note(header_->used, header_->used - actual);
  End();
  return {Status::kOk, start, actual};
}

Answer Books::BlockAt(std::uint64_t granule) const {
  if (header_->operation != 0) return {Status::kInterrupted};
  if (granule >= shape_.granules) return {Status::kNotAllocated};
  std::uint64_t index = granule / kBits;
  if ((words_[index].used >> granule % kBits & 1) == 0) return {Status::kNotAllocated};
  std::uint64_t starts = words_[index].starts & Ones(granule % kBits + 1);
  while (starts == 0 && index > 0) starts = words_[--index].starts;
  if (starts == 0) return {Status::kNotAllocated};
  const std::uint64_t start = index * kBits + kBits - 1 - Clz(starts);
  return {Status::kOk, start, BlockEnd(start) - start};
}

Answer Books::BlockFrom(std::uint64_t granule) const {
  if (header_->operation != 0) return {Status::kInterrupted};
  if (granule >= shape_.granules) return {Status::kNotAllocated};
  std::uint64_t index = granule / kBits;
  std::uint64_t starts = words_[index].starts & kAll << granule % kBits;
  while (starts == 0 && index + 1 < word_count_) starts = words_[++index].starts;
  if (starts == 0) return {Status::kNotAllocated};
  const std::uint64_t start = index * kBits + Ctz(starts);
  return {Status::kOk, start, BlockEnd(start) - start};
}

std::uint64_t Books::BlocksIn(std::uint64_t leaf) const {
  return words_[leaf].used & words_[leaf].starts & Mask(leaf, 0, shape_.granules);
}

Answer Books::FreeRunAt(std::uint64_t granule) const {
  if (granule >= shape_.granules || (words_[granule / kBits].used >> granule % kBits & 1) != 0) return {};
  const std::uint64_t end = NextUsed(granule);
  const std::uint64_t start = RunStart(end);
  return {Status::kOk, start, end - start};
}

std::uint64_t Books::UsedIn(std::uint64_t start, std::uint64_t end) const {
  std::uint64_t count = 0;
  for (std::uint64_t index = start / kBits; index * kBits < end; ++index) {
    count += static_cast<std::uint64_t>(std::popcount(words_[index].used & Mask(index, start, end)));
  }
  return count;
}

std::uint64_t Books::block_count() const {
  return header_->blocks;
}
std::uint64_t Books::used_count() const {
  return std::min(header_->used, shape_.granules);
}

void Books::Prefetch(std::uint64_t granule) const {
  __builtin_prefetch(&words_[granule / kBits]);
  __builtin_prefetch(&tiers_[0][granule / kBits]);
}

Answer Books::Measure(Stats& stats) {
  if (header_->operation != 0) return {Status::kInterrupted};
  Begin();
  const std::uint64_t longest = Longest();
  End();
  stats.used = header_->used;
  stats.free = shape_.granules - header_->used;
  stats.blocks = header_->blocks;
  stats.most_used = header_->most_used;
  stats.longest = longest;
  stats.fragmentation =
      stats.free == 0 ? 0 : 1 - static_cast<double>(longest) / static_cast<double>(stats.free);
  return {};
}

/// Clears used granules and starts that are of no block. Going up, what is still to be cleared stays
/// nobody's.
std::uint64_t Books::RepairTruth(std::uint64_t& blocks) {
  std::uint64_t count = 0;
  std::uint64_t carry = 0;
  for (std::uint64_t index = 0; index < word_count_; ++index) {
    Word& word = words_[index];
    const std::uint64_t inside = Mask(index, 0, shape_.granules);
    const std::uint64_t present = word.used & inside;
    const std::uint64_t used = Reach(present & (word.starts | carry), present);
    carry = used >> (kBits - 1);
    if (word.used != (used | ~inside)) Write(word.used, used | ~inside);
    if (word.starts != (word.starts & used)) Write(word.starts, word.starts & used);
    count += static_cast<std::uint64_t>(std::popcount(used));
    blocks += static_cast<std::uint64_t>(std::popcount(word.starts));
  }
  if (words_[word_count_].used != kAll) Write(words_[word_count_].used, kAll);
  if (words_[word_count_].starts != 0) Write(words_[word_count_].starts, std::uint64_t{0});
  return count;
}

/// What a word of a level is to be: which of the 64 below it are not empty.
std::uint64_t Books::LevelBits(std::size_t level, std::uint64_t index) const {
  const std::uint64_t below = level == 0 ? word_count_ + 1 : level_words_[level - 1];
  std::uint64_t bits = 0;
  for (std::uint64_t bit = 0; bit < std::min(kBits, below - index * kBits); ++bit) {
    const std::uint64_t child = index * kBits + bit;
    const std::uint64_t word = level == 0 ? words_[child].used : levels_[level - 1][child];
    bits |= static_cast<std::uint64_t>(word != 0) << bit;
  }
  return bits;
}

void Books::Repair() {
  Begin();
  std::uint64_t blocks = 0;
  const std::uint64_t used = RepairTruth(blocks);
  Note(header_->used, used);
  Note(header_->blocks, blocks);
  if (used > header_->most_used) Note(header_->most_used, used);

  for (std::size_t level = 0; level < level_count_; ++level) {
    for (std::uint64_t index = 0; index < level_words_[level]; ++index) {
      const std::uint64_t bits = LevelBits(level, index);
      if (levels_[level][index] != bits) Note(levels_[level][index], bits);
    }
  }

  for (std::uint64_t length = 1; length <= kLongestBin; ++length) Note(bins_[length - 1], Bin{0, 0});
  // From the end, so that the lowest places come out of the bins first.
  for (std::uint64_t leaf = tier_nodes_[0]; leaf-- > 0;) {
    std::uint64_t longest = 0;
    if (leaf < word_count_) {
      EachRun(leaf, [&](const Run& run) {
        longest = std::max(longest, run.end - run.start);
        Remember(run.start, run.end - run.start);
        return false;
      });
    }
    if (tiers_[0][leaf] != longest) Note(tiers_[0][leaf], static_cast<std::uint32_t>(longest));
  }
  for (std::size_t tier = 1; tier < tier_count_; ++tier) {
    for (std::uint64_t index = 0; index < tier_nodes_[tier]; ++index) {
      const bool has_children = index * kFan < tier_nodes_[tier - 1];
      const std::uint32_t largest = has_children ? Largest(tiers_[tier - 1] + index * kFan) : 0;
      if (tiers_[tier][index] != largest) Note(tiers_[tier][index], largest);
    }
  }
  End();
}

/// Collects differences.
class Books::Verdict {
 public:
  void Compare(Part part, std::uint64_t index, std::uint64_t expected, std::uint64_t found) {
    if (expected != found) Report(part, index, expected, found);
  }
  void Report(Part part, std::uint64_t index, std::uint64_t expected, std::uint64_t found) {
    if (differences_.count++ == 0) differences_ = Differences{1, part, index, expected, found};
  }
  const Differences& differences() const { return differences_; }

 private:
  Differences differences_;
};

Differences Books::Check() const {
  Verdict verdict;
  verdict.Compare(Part::kOperation, 0, 0, header_->operation);

  std::uint64_t used_count = 0;
  std::uint64_t blocks = 0;
  std::uint64_t carry = 0;
  for (std::uint64_t index = 0; index < word_count_; ++index) {
    const Word& word = words_[index];
    const std::uint64_t inside = Mask(index, 0, shape_.granules);
    const std::uint64_t present = word.used & inside;
    const std::uint64_t used = Reach(present & (word.starts | carry), present);
    carry = used >> (kBits - 1);
    verdict.Compare(Part::kUsed, index * kBits, used | ~inside, word.used);
    verdict.Compare(Part::kStarts, index * kBits, word.starts & used, word.starts);
    used_count += static_cast<std::uint64_t>(std::popcount(used));
    blocks += static_cast<std::uint64_t>(std::popcount(word.starts & used));
  }
  verdict.Compare(Part::kUsed, word_count_ * kBits, kAll, words_[word_count_].used);
  verdict.Compare(Part::kStarts, word_count_ * kBits, 0, words_[word_count_].starts);
  verdict.Compare(Part::kCounts, 0, used_count, header_->used);
  verdict.Compare(Part::kCounts, 1, blocks, header_->blocks);
  if (header_->most_used < used_count) verdict.Report(Part::kCounts, 2, used_count, header_->most_used);

  for (std::size_t level = 0; level < level_count_; ++level) {
    for (std::uint64_t index = 0; index < level_words_[level]; ++index) {
      verdict.Compare(Part::kLevels, index, LevelBits(level, index), levels_[level][index]);
    }
  }

  // Run by run, in the bitmap alone. `flip` makes the granules that are sought ones.
  const auto next = [this](std::uint64_t from, std::uint64_t flip) {
    std::uint64_t index = from / kBits;
    std::uint64_t bits = (words_[index].used ^ flip) & kAll << from % kBits;
    while (bits == 0 && index < word_count_) bits = words_[++index].used ^ flip;
    return bits == 0 ? shape_.granules : std::min(index * kBits + Ctz(bits), shape_.granules);
  };
  std::vector<std::uint32_t> longest(tier_nodes_[0]);
  for (std::uint64_t end = 0; end < shape_.granules;) {
    const std::uint64_t start = next(end, kAll);
    if (start == shape_.granules) break;
    end = next(start, 0);
    std::uint32_t& leaf = longest[start / kBits];
    leaf = std::max(leaf, static_cast<std::uint32_t>(end - start));
  }
  for (std::uint64_t leaf = 0; leaf < tier_nodes_[0]; ++leaf) {
    const std::uint32_t bound = tiers_[0][leaf];
    if (bound < longest[leaf]) verdict.Report(Part::kTree, leaf, longest[leaf], bound);
  }
  for (std::size_t tier = 1; tier < tier_count_; ++tier) {
    for (std::uint64_t index = 0; index < tier_nodes_[tier]; ++index) {
      const bool has_children = index * kFan < tier_nodes_[tier - 1];
      verdict.Compare(Part::kTree, index, has_children ? Largest(tiers_[tier - 1] + index * kFan) : 0,
                      tiers_[tier][index]);
    }
  }
  for (std::uint64_t length = 1; length <= kLongestBin; ++length) {
    if (bins_[length - 1].count > capacity_) {
      verdict.Report(Part::kBins, length, capacity_, bins_[length - 1].count);
    }
  }
  return verdict.differences();
}

}  // namespace iospace::arena
