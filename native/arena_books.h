/// The books of an arena: which of its granules are in blocks, and where the next block goes.
///
/// Plain memory that several processes map, each where it likes: offsets only, no pointers. It lies beside
/// the arena, never in it. Knows nothing of JavaScript, of locks or of devices: the caller holds the arena's
/// lock.
///
/// **The truth** is two bits a granule, `used` and `starts`. A block is a granule that has both, and the used
/// granules after it up to the next start. Everything else is derived from them, and Repair() builds it anew:
///
/// - the levels: one bit for each 64 granules (then each 64 of those, and so on) of which any is used. They
/// find the
///   ends of a free run in a few steps, however long it is;
/// - the tree: for each 64 granules a bound of the longest free run that *starts* among them, then the
/// largest of 16
///   such bounds, and so on. It finds the first place. A bound is never too low; one that is too high is
///   corrected by whoever is led astray by it;
/// - the bins: for each length up to 32 granules some places where a free run of just that length was seen. A
/// place
///   is looked at before it is used;
/// - the counts of used granules and of blocks.
///
/// **What commits** a block is the one write of the `used` word in which it starts, and the same write takes
/// it away. Allocate() writes the start and the later words before it: a start that is not used, and used
/// granules that follow no block, are nobody's. Free() writes them after it. So a process that dies between
/// any two writes leaves the arena as it was before its call or as it is after it, once Repair() has cleared
/// what is nobody's and rebuilt what is derived. What is derived is written after the commit, in any order.
/// The order matters to the compiler alone: what a dead process has written is seen in the order of its
/// program. `operation` in the header is set around all writes of a call; where it is found set, each call
/// but Repair() and Check() answers kInterrupted, whatever the lock says.
///
/// Whatever was written there by a process that went wrong, a call ends, and stays inside of the memory.
/// What it does to the blocks then is for Check() to say.
///
/// Not (start, longest, end) of each part, as others have it: bounds of the runs that *start* in a part need
/// no merging, and an allocation that fits exactly leaves them alone. It touches two or three words in all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

namespace iospace::arena {

/// Granules of one word of the bitmaps: what the records have one list for.
inline constexpr std::uint64_t kLeaf = 64;

/// What the books are about. At most 2^30 granules, each a power of two from 64 bytes.
struct Shape {
  std::uint64_t granule = 0;   ///< Bytes.
  std::uint64_t granules = 0;  ///< How many the arena has.
};

/// Why memory is not the books of an arena.
enum class Damage : std::uint8_t { kShape, kMagic, kVersion, kAbi, kChecksum, kSize };

enum class Status : std::uint8_t {
  kOk,
  kInvalid,  ///< Nothing can meet the request: zero, no power of two, longer than its boundary, an alignment
             ///< that no granule has from this base.
  kNoSpace,  ///< `length` is that of the longest free run.
  kNotAllocated,  ///< The granule is in no block.
  kInside,        ///< The granule is not the first of its block, which the answer has.
  kWrongLength,   ///< The block, which the answer has, is of another length.
  kInterrupted,   ///< A call has not come to its end: Repair() first.
};

struct Request {
  std::uint64_t length = 1;    ///< Granules.
  std::uint64_t align = 1;     ///< Bytes, a power of two: of the bus address.
  std::uint64_t boundary = 0;  ///< Bytes, a power of two that no block may cross on the bus; 0 for none.
  std::uint64_t base = 0;      ///< The bus address of the arena's first granule.
};

struct Answer {
  Status status = Status::kOk;
  std::uint64_t start = 0;   ///< The block's first granule.
  std::uint64_t length = 0;  ///< In granules.
};

/// All in granules.
struct Stats {
  std::uint64_t used = 0;
  std::uint64_t free = 0;
  std::uint64_t blocks = 0;
  std::uint64_t most_used = 0;  ///< High-water mark. Not derived: a repair keeps it.
  std::uint64_t longest = 0;    ///< The longest free run.
  double fragmentation = 0;     ///< The share of what is free that lies outside of the longest run.
};

/// What Check() compares.
enum class Part : std::uint8_t { kNone, kOperation, kUsed, kStarts, kLevels, kTree, kBins, kCounts };

/// How many differences there are, and the first of them.
struct Differences {
  std::uint64_t count = 0;
  Part part = Part::kNone;
  std::uint64_t index = 0;  ///< Of the first: the granule, or which of the part's words.
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

class Books {
 public:
  Books() = default;

  /// How many bytes the books of such an arena take; 0 if there can be none.
  static std::size_t SizeFor(const Shape& shape);

  /// Opens new books in `memory`, which is aligned to 64 bytes and all zero.
  static std::variant<Books, Damage> Create(std::span<std::byte> memory, const Shape& shape);

  /// Finds books that Create() made, perhaps in another process. Looks at the header only.
  static std::variant<Books, Damage> Attach(std::span<std::byte> memory);

  Shape shape() const { return shape_; }

  /// A free run of exactly the length, if one is known; else the lowest address. With a constraint that most
  /// runs fail, a run that is long enough for any address may be preferred.
  Answer Allocate(const Request& request);

  /// Frees the block that starts there. `length` is compared with the block's, unless it is 0.
  Answer Free(std::uint64_t start, std::uint64_t length = 0);

  /// The block that the granule is in.
  Answer BlockAt(std::uint64_t granule) const;

  /// The first block that starts at the granule or after it; kNotAllocated at the end.
  Answer BlockFrom(std::uint64_t granule) const;

  /// One bit for each of these 64 granules that is the first of a block.
  std::uint64_t BlocksIn(std::uint64_t leaf) const;

  /// The free run that the granule is in; of length 0 if it is used.
  Answer FreeRunAt(std::uint64_t granule) const;

  /// How many of [start, end) are used.
  std::uint64_t UsedIn(std::uint64_t start, std::uint64_t end) const;

  std::uint64_t block_count() const;
  std::uint64_t used_count() const;

  /// Fetches what Free() needs first.
  void Prefetch(std::uint64_t granule) const;

  Answer Measure(Stats& stats);

  /// Clears what is nobody's and builds everything derived anew. Can be stopped and called again.
  void Repair();

  /// Recomputes everything and changes nothing.
  Differences Check() const;

 private:
  struct Header;
  struct Layout;
  /// 64 granules. Both bitmaps in one cache line, since each call needs both.
  struct Word {
    std::uint64_t used;
    std::uint64_t starts;
  };
  struct Bin {
    std::uint32_t top;    ///< Where the next place goes, modulo the capacity.
    std::uint32_t count;  ///< How many there are.
  };
  struct Run {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
  };
  /// Where a request goes, and the free run around it.
  struct Place {
    bool found = false;
    bool is_exact = false;  ///< Out of a bin.
    std::uint64_t start = 0;
    Run run;
  };
  class Verdict;

  static constexpr std::size_t kMostLevels = 5;
  static constexpr std::size_t kMostTiers = 7;

  Books(std::span<std::byte> memory, const Shape& shape);

  void Begin();
  void End();

  std::uint64_t NextUsed(std::uint64_t granule) const;
  std::uint64_t RunStart(std::uint64_t end) const;
  std::uint64_t BlockEnd(std::uint64_t start) const;
  bool IsRun(std::uint64_t start, std::uint64_t length) const;

  void Mark(std::uint64_t start, std::uint64_t length);
  void Clear(std::uint64_t start, std::uint64_t length);
  void Occupy(std::uint64_t first, std::uint64_t last);
  void Vacate(std::uint64_t first, std::uint64_t last);

  void Raise(std::uint64_t leaf, std::uint64_t length);
  void Lower(std::uint64_t leaf, std::uint64_t length);
  std::uint64_t NextLeaf(std::uint64_t from, std::uint64_t length) const;
  template <typename Visit>
  void EachRun(std::uint64_t leaf, Visit visit) const;
  std::uint64_t LongestIn(std::uint64_t leaf) const;
  std::uint64_t Longest();

  void Remember(std::uint64_t start, std::uint64_t length);
  Place TakeExact(const Request& request);
  Place FirstFit(const Request& request, std::uint64_t length, std::uint64_t& from, std::uint64_t tries);
  Place Find(const Request& request);

  std::uint64_t RepairTruth(std::uint64_t& blocks);
  std::uint64_t LevelBits(std::size_t level, std::uint64_t index) const;

  Shape shape_;
  Header* header_ = nullptr;
  Word* words_ = nullptr;
  std::uint64_t word_count_ = 0;  ///< Without the last, which ends the last run.
  std::array<std::uint64_t*, kMostLevels> levels_{};
  std::array<std::uint64_t, kMostLevels> level_words_{};
  std::size_t level_count_ = 0;
  std::array<std::uint32_t*, kMostTiers> tiers_{};
  std::array<std::uint64_t, kMostTiers> tier_nodes_{};
  std::size_t tier_count_ = 0;
  Bin* bins_ = nullptr;
  std::uint32_t* places_ = nullptr;
  std::uint32_t capacity_ = 0;  ///< Of each bin, a power of two.
};

}  // namespace iospace::arena
