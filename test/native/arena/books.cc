/// The books of an arena against a plain array of booleans, and stopped at every write.
///
///     arena-test SUITE [SEED]
///
/// Compiled together with the books, whose every write calls BeforeWrite(). Ends with 1 and says why at the
/// first difference.
#include "arena_books.h"
#include "support.h"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace iospace::arena;

/// Zero pages, as many as are touched.
class Memory {
 public:
  explicit Memory(std::size_t size) : size_(size) {
    void* const address =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT(address != MAP_FAILED, "%zu bytes", size);
    bytes_ = static_cast<std::byte*>(address);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::munmap(bytes_, size_); }

  std::span<std::byte> bytes() const { return {bytes_, size_}; }

 private:
  std::byte* bytes_ = nullptr;
  std::size_t size_;
};

Books Create(const Memory& memory, const Shape& shape) {
  auto result = Books::Create(memory.bytes(), shape);
  EXPECT(std::holds_alternative<Books>(result), "damage %d", static_cast<int>(std::get<Damage>(result)));
  return std::get<Books>(result);
}

void ExpectSound(const Books& books) {
  const Differences differences = books.Check();
  EXPECT(differences.count == 0,
         "%" PRIu64 " differences, the first in part %d at %" PRIu64 ": expected %" PRIx64 ", found %" PRIx64,
         differences.count, static_cast<int>(differences.part), differences.index, differences.expected,
         differences.found);
}

using Blocks = std::map<std::uint64_t, std::uint64_t>;

Blocks BlocksOf(const Books& books) {
  Blocks blocks;
  for (Answer block = books.BlockFrom(0); block.status == Status::kOk;
       block = books.BlockFrom(block.start + 1)) {
    blocks[block.start] = block.length;
  }
  return blocks;
}

/// What the books are compared with.
class Model {
 public:
  explicit Model(const Shape& shape) : shape_(shape), used_(shape.granules) {}

  bool Fits(const Request& request, std::uint64_t start) const {
    if (start + request.length > shape_.granules) return false;
    const std::uint64_t address = request.base + start * shape_.granule;
    if (address % request.align != 0) return false;
    const std::uint64_t last = address + request.length * shape_.granule - 1;
    if (request.boundary != 0 && address / request.boundary != last / request.boundary) return false;
    for (std::uint64_t i = 0; i < request.length; ++i) {
      if (used_[start + i]) return false;
    }
    return true;
  }

  /// The lowest place, or kNever.
  std::uint64_t FirstFit(const Request& request) const {
    for (std::uint64_t start = 0; start + request.length <= shape_.granules; ++start) {
      if (!used_[start] && Fits(request, start)) return start;
    }
    return kNever;
  }

  bool IsWholeRun(std::uint64_t start, std::uint64_t length) const {
    const std::uint64_t end = start + length;
    return (start == 0 || used_[start - 1]) && (end == shape_.granules || used_[end]);
  }

  std::uint64_t Longest() const {
    std::uint64_t longest = 0;
    std::uint64_t run = 0;
    for (const bool used : used_) {
      run = used ? 0 : run + 1;
      longest = std::max(longest, run);
    }
    return longest;
  }

  void Set(std::uint64_t start, std::uint64_t length, bool used) {
    for (std::uint64_t i = 0; i < length; ++i) {
      EXPECT(used_[start + i] != used, "granule %" PRIu64, start + i);
      used_[start + i] = used;
    }
    used ? count_ += length : count_ -= length;
    most_ = std::max(most_, count_);
    if (used) {
      blocks[start] = length;
    } else {
      blocks.erase(start);
    }
  }

  std::uint64_t count() const { return count_; }
  std::uint64_t most() const { return most_; }

  Blocks blocks;

 private:
  Shape shape_;
  std::vector<bool> used_;
  std::uint64_t count_ = 0;
  std::uint64_t most_ = 0;
};

Request RandomRequest(Random& random, const Shape& shape) {
  Request request;
  const std::uint64_t kind = Below(random, 8);
  const std::uint64_t most = kind == 0 ? shape.granules + 1 : kind < 3 ? 300 : kind < 6 ? 64 : 4;
  request.length = 1 + Below(random, std::min(most, shape.granules + 1));
  if (Below(random, 4) != 0) return request;
  request.align = std::uint64_t{1} << Below(random, 20);
  request.base = Below(random, 64) * 4096;
  if (Below(random, 4) == 0) request.base += Below(random, 4) * shape.granule / 4;
  if (Below(random, 2) == 0) request.boundary = std::uint64_t{1} << (8 + Below(random, 14));
  return request;
}

/// Random calls on a small arena, each compared with the model.
void TestModel(std::uint64_t seed) {
  Random random(seed);
  for (const std::uint64_t granules : {1, 2, 63, 64, 65, 128, 300, 1024, 4095, 70000}) {
    const Shape shape{std::uint64_t{64} << Below(random, 8), granules};
    const Memory memory(Books::SizeFor(shape));
    Books books = Create(memory, shape);
    ExpectSound(books);
    Model model(shape);
    // More is allocated than freed, then the other way round, and so on.
    const int calls = granules > 10000 ? 3000 : 6000;
    for (int call = 0; call < calls; ++call) {
      const bool fill = Below(random, 10) < (call / 500 % 2 == 0 ? 7U : 3U);
      if (fill || model.blocks.empty()) {
        const Request request = RandomRequest(random, shape);
        const Answer answer = books.Allocate(request);
        const std::uint64_t first = model.FirstFit(request);
        if (answer.status == Status::kOk) {
          EXPECT(answer.length == request.length, "%" PRIu64, answer.length);
          EXPECT(model.Fits(request, answer.start), "seed %" PRIu64 " call %d: %" PRIu64 "+%" PRIu64, seed,
                 call, answer.start, answer.length);
          const bool is_free_of_constraints = request.align <= shape.granule && request.boundary == 0;
          const bool is_exact = request.length <= 64 && model.IsWholeRun(answer.start, answer.length);
          EXPECT(!is_free_of_constraints || is_exact || answer.start == first,
                 "seed %" PRIu64 " call %d: at %" PRIu64 ", first fit %" PRIu64, seed, call, answer.start,
                 first);
          model.Set(answer.start, answer.length, true);
        } else {
          EXPECT(first == kNever, "seed %" PRIu64 " call %d: status %d, but %" PRIu64 "+%" PRIu64 " fits",
                 seed, call, static_cast<int>(answer.status), first, request.length);
          EXPECT(answer.status == Status::kInvalid || answer.length == model.Longest(),
                 "%" PRIu64 " is not the longest", answer.length);
        }
      } else {
        auto block = model.blocks.lower_bound(Below(random, shape.granules));
        if (block == model.blocks.end()) block = model.blocks.begin();
        const auto [start, length] = *block;
        if (length > 1) {
          const Answer inside = books.Free(start + 1 + Below(random, length - 1));
          EXPECT(inside.status == Status::kInside && inside.start == start && inside.length == length,
                 "status %d", static_cast<int>(inside.status));
        }
        const Answer wrong = books.Free(start, length + 1);
        EXPECT(wrong.status == Status::kWrongLength && wrong.length == length, "status %d",
               static_cast<int>(wrong.status));
        const Answer at = books.BlockAt(start + Below(random, length));
        EXPECT(at.status == Status::kOk && at.start == start && at.length == length, "block at %" PRIu64,
               start);
        const Answer freed = books.Free(start, Below(random, 2) * length);
        EXPECT(freed.status == Status::kOk && freed.length == length, "status %d",
               static_cast<int>(freed.status));
        EXPECT(books.Free(start).status == Status::kNotAllocated, "freed twice");
        model.Set(start, length, false);
      }
      if (call % 97 == 0) {
        ExpectSound(books);
        EXPECT(BlocksOf(books) == model.blocks, "seed %" PRIu64 " call %d", seed, call);
        Stats stats;
        EXPECT(books.Measure(stats).status == Status::kOk, "stats");
        EXPECT(stats.used == model.count() && stats.free == granules - model.count(), "%" PRIu64 " used",
               stats.used);
        EXPECT(stats.blocks == model.blocks.size() && stats.most_used == model.most(), "%" PRIu64,
               stats.blocks);
        EXPECT(stats.longest == model.Longest(), "%" PRIu64, stats.longest);
      }
      if (call % 1009 == 0) {
        books.Repair();
        ExpectSound(books);
        EXPECT(BlocksOf(books) == model.blocks, "after a repair");
      }
    }
  }
}

/// Filled to the last granule, emptied, and as it was before.
void TestExhaustion(std::uint64_t seed) {
  Random random(seed);
  for (const std::uint64_t granules : {1, 64, 65, 5000, 262144}) {
    const Shape shape{4096, granules};
    const Memory memory(Books::SizeFor(shape));
    Books books = Create(memory, shape);
    for (int round = 0; round < 3; ++round) {
      std::vector<std::uint64_t> starts;
      std::uint64_t used = 0;
      for (std::uint64_t most = 64; most > 0; most /= 2) {
        for (;;) {
          const Answer answer = books.Allocate({1 + Below(random, most)});
          if (answer.status != Status::kOk) break;
          starts.push_back(answer.start);
          used += answer.length;
        }
      }
      EXPECT(used == granules, "%" PRIu64 " of %" PRIu64, used, granules);
      const Answer none = books.Allocate({1});
      EXPECT(none.status == Status::kNoSpace && none.length == 0, "status %d", static_cast<int>(none.status));
      ExpectSound(books);
      std::shuffle(starts.begin(), starts.end(), random);
      for (const std::uint64_t start : starts)
        EXPECT(books.Free(start).status == Status::kOk, "%" PRIu64, start);
      ExpectSound(books);
      Stats stats;
      books.Measure(stats);
      EXPECT(stats.used == 0 && stats.longest == granules && stats.fragmentation == 0 && stats.blocks == 0,
             "not empty");
    }
  }
}

/// Arenas whose books are larger than what is touched of them.
void TestSparse(std::uint64_t seed) {
  for (const Shape shape : {Shape{4096, std::uint64_t{1} << 24}, Shape{64, std::uint64_t{1} << 30}}) {
    Random random(seed);
    const Memory memory(Books::SizeFor(shape));
    Books books = Create(memory, shape);
    Blocks blocks;
    const auto allocate = [&](std::uint64_t length) {
      const Answer answer = books.Allocate({length});
      if (answer.status != Status::kOk) return;
      const auto after = blocks.lower_bound(answer.start);
      EXPECT(after == blocks.end() || answer.start + length <= after->first, "overlap");
      EXPECT(after == blocks.begin() || std::prev(after)->first + std::prev(after)->second <= answer.start,
             "overlap");
      blocks[answer.start] = length;
    };
    for (int call = 0; call < 300; ++call) {
      if (Below(random, 3) != 0) {
        allocate(1 + Below(random, std::uint64_t{1} << Below(random, 23)));
      } else if (!blocks.empty()) {
        const auto block =
            std::next(blocks.begin(), static_cast<std::ptrdiff_t>(Below(random, blocks.size())));
        EXPECT(books.Free(block->first, block->second).status == Status::kOk, "free");
        blocks.erase(block);
      }
    }
    EXPECT(BlocksOf(books) == blocks, "blocks");
    ExpectSound(books);
    // To the last granule.
    for (;;) {
      const Answer none = books.Allocate({shape.granules});
      EXPECT(none.status == Status::kNoSpace, "status %d", static_cast<int>(none.status));
      if (none.length == 0) break;
      allocate(none.length);
    }
    EXPECT(books.BlockAt(shape.granules - 1).status == Status::kOk, "the last granule");
    for (const auto& [start, length] : blocks) EXPECT(books.Free(start).status == Status::kOk, "free");
    const Answer whole = books.Allocate({shape.granules});
    EXPECT(whole.status == Status::kOk && whole.start == 0, "whole");
    ExpectSound(books);
  }
}

/// The bytes of some books, for going back to them.
class Image {
 public:
  explicit Image(const Memory& memory)
      : memory_(memory), copy_(memory.bytes().begin(), memory.bytes().end()) {}
  void Restore() const { std::memcpy(memory_.bytes().data(), copy_.data(), copy_.size()); }

 private:
  const Memory& memory_;
  std::vector<std::byte> copy_;
};

/// Stops the call before each of its writes, and each repair before each of its own.
void ExpectAtomic(const Memory& memory, Books& books, const char* name, const std::function<Answer()>& call) {
  const Image before(memory);
  const Blocks old_blocks = BlocksOf(books);
  EXPECT(call().status == Status::kOk, "%s", name);
  const Blocks new_blocks = BlocksOf(books);
  bool is_committed = false;
  for (std::uint64_t writes = 0;; ++writes) {
    before.Restore();
    if (Ends(writes, [&] { call(); })) break;
    if (writes > 0) {
      EXPECT(books.Allocate({1}).status == Status::kInterrupted, "%s after %" PRIu64, name, writes);
      EXPECT(books.Check().count > 0, "%s after %" PRIu64, name, writes);
    }
    const Image stopped(memory);
    for (std::uint64_t more = 0;; ++more) {
      stopped.Restore();
      const bool ended = Ends(more, [&] { books.Repair(); });
      books.Repair();
      ExpectSound(books);
      const Blocks blocks = BlocksOf(books);
      const bool is_new = blocks == new_blocks && (new_blocks != old_blocks || is_committed);
      EXPECT(blocks == old_blocks || blocks == new_blocks,
             "%s after %" PRIu64 " writes, repair after %" PRIu64, name, writes, more);
      EXPECT(is_new || !is_committed, "%s after %" PRIu64 " writes takes back what was committed", name,
             writes);
      if (ended) {
        is_committed = is_new;
        break;
      }
    }
    // And they are of use.
    const Answer one = books.Allocate({1});
    EXPECT(one.status != Status::kOk || books.Free(one.start).status == Status::kOk, "%s", name);
    ExpectSound(books);
  }
  EXPECT(is_committed || new_blocks == old_blocks, "%s", name);
}

void TestStops(std::uint64_t seed) {
  Random random(seed);
  for (const std::uint64_t granules : {64, 200, 1300, 9000}) {
    const Shape shape{4096, granules};
    const Memory memory(Books::SizeFor(shape));
    Books books = Create(memory, shape);
    for (int state = 0; state < 6; ++state) {
      // Some blocks with gaps, blocks against blocks among them.
      std::vector<std::uint64_t> starts;
      while (starts.size() < 30) {
        const Answer answer = books.Allocate({1 + Below(random, granules / 12)});
        if (answer.status != Status::kOk) break;
        starts.push_back(answer.start);
      }
      std::shuffle(starts.begin(), starts.end(), random);
      for (std::size_t i = 0; i < starts.size() / 2; ++i) books.Free(starts[i]);
      Stats stats;
      books.Measure(stats);
      const Image image(memory);
      const auto allocate = [&](const char* name, const Request& request) {
        image.Restore();
        ExpectAtomic(memory, books, name, [&] { return books.Allocate(request); });
      };
      allocate("allocate 1", {1});
      allocate("allocate some", {1 + Below(random, std::min<std::uint64_t>(64, stats.longest))});
      allocate("allocate the longest", {stats.longest});
      allocate("allocate aligned", {1, 16384, 65536, 4096});
      for (std::size_t i = starts.size() / 2; i < std::min(starts.size(), starts.size() / 2 + 4); ++i) {
        image.Restore();
        ExpectAtomic(memory, books, "free", [&] { return books.Free(starts[i]); });
      }
      image.Restore();
      ExpectAtomic(memory, books, "measure", [&] { return books.Measure(stats); });
      image.Restore();
      for (const auto& [start, length] : BlocksOf(books)) books.Free(start);
    }
  }
}

/// Headers that are not those of books; calls that are refused; repairs of any bitmap.
void TestDamage(std::uint64_t seed) {
  const Shape shape{4096, 1000};
  const Memory memory(Books::SizeFor(shape));
  const auto attach = [&](std::size_t size) {
    const auto result = Books::Attach(memory.bytes().first(size));
    return std::holds_alternative<Books>(result) ? -1 : static_cast<int>(std::get<Damage>(result));
  };
  const std::size_t size = memory.bytes().size();
  EXPECT(attach(size) == static_cast<int>(Damage::kMagic), "%d", attach(size));
  Books books = Create(memory, shape);
  EXPECT(attach(size) == -1, "%d", attach(size));
  EXPECT(attach(Books::SizeFor(shape) - 1) == static_cast<int>(Damage::kSize), "short");
  EXPECT(attach(1) == static_cast<int>(Damage::kSize), "short");
  const Image image(memory);
  const auto damaged = [&](std::size_t at) {
    image.Restore();
    memory.bytes()[at] ^= std::byte{1};
    const int damage = attach(size);
    image.Restore();
    return damage;
  };
  for (std::size_t at = 0; at < 64; ++at) {
    const Damage expected = at < 8    ? Damage::kMagic
                            : at < 12 ? Damage::kVersion
                            : at < 16 ? Damage::kAbi
                                      : Damage::kChecksum;
    EXPECT(damaged(at) == static_cast<int>(expected), "byte %zu: %d", at, damaged(at));
  }

  for (const Shape impossible : {Shape{32, 10}, Shape{4095, 10}, Shape{4096, 0},
                                 Shape{4096, (1ULL << 30) + 1}, Shape{1ULL << 40, 1}}) {
    EXPECT(Books::SizeFor(impossible) == 0, "granule %" PRIu64, impossible.granule);
  }
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  for (const Request& request :
       {Request{0}, Request{1, 0}, Request{1, 3}, Request{1, 1, 3}, Request{2, 1, 4096},
        Request{1, 4096, 0, 1}, Request{1, 1, 4096, 64}, Request{1, 1, 0, most}}) {
    EXPECT(books.Allocate(request).status == Status::kInvalid, "length %" PRIu64 " align %" PRIu64,
           request.length, request.align);
  }
  for (const Request& request : {Request{1001}, Request{most}, Request{1, 1ULL << 63, 0, 4096}}) {
    EXPECT(books.Allocate(request).status == Status::kNoSpace, "length %" PRIu64, request.length);
  }
  EXPECT(books.Free(1000).status == Status::kNotAllocated && books.Free(most).status == Status::kNotAllocated,
         "outside");
  EXPECT(books.BlockAt(most).status == Status::kNotAllocated, "outside");
  ExpectSound(books);

  // Any bytes at all behind the header: found by Check(), and sound after a repair.
  Random random(seed);
  for (int round = 0; round < 200; ++round) {
    image.Restore();
    const int changes = 1 + static_cast<int>(Below(random, 20));
    for (int i = 0; i < changes; ++i) {
      memory.bytes()[64 + Below(random, Books::SizeFor(shape) - 64)] ^=
          static_cast<std::byte>(1 + Below(random, 255));
    }
    books.Repair();
    ExpectSound(books);
    const Answer answer = books.Allocate({1 + Below(random, 100)});
    if (answer.status == Status::kOk) EXPECT(books.Free(answer.start).status == Status::kOk, "free");
    ExpectSound(books);
  }
}

/// The books of an arena are at most 0.02 % of it.
void TestSize(std::uint64_t) {
  for (std::uint64_t bytes = 16ULL << 20; bytes <= 64ULL << 30; bytes *= 2) {
    const std::size_t size = Books::SizeFor({4096, bytes / 4096});
    EXPECT(static_cast<double>(size) < 0.0002 * static_cast<double>(bytes), "%zu of %" PRIu64, size, bytes);
  }
}

const Suites suites = {
    {"model", TestModel}, {"exhaustion", TestExhaustion}, {"sparse", TestSparse},
    {"stops", TestStops}, {"damage", TestDamage},         {"size", TestSize},
};

}  // namespace

int main(int argc, char** argv) {
  return RunSuite(suites, argc, argv);
}
