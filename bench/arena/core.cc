/// The core of an arena in the workloads of which the tables of docs/performance.md are made: JSON, one line
/// for each allocator, workload and round.
///
///     arena-bench [--rounds N]
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "allocators.h"
#include "arena_books.h"
#include "arena_shared.h"

namespace {

using iospace::arena::Answer;
using iospace::arena::Status;

class Iospace {
 public:
  explicit Iospace(std::uint32_t granules)
      : size_(iospace::arena::Books::SizeFor({4096, granules})),
        memory_(static_cast<std::byte*>(::operator new (size_, std::align_val_t{4096}))),
        books_(Make(granules)) {}
  Iospace(const Iospace&) = delete;
  Iospace& operator=(const Iospace&) = delete;
  ~Iospace() { ::operator delete (memory_, std::align_val_t{4096}); }

  std::uint32_t Allocate(std::uint32_t length) {
    const Answer answer = books_.Allocate({length});
    return answer.status == Status::kOk ? static_cast<std::uint32_t>(answer.start) : kNone;
  }
  void Free(std::uint32_t start, std::uint32_t length) { books_.Free(start, length); }

 private:
  iospace::arena::Books Make(std::uint32_t granules) {
    std::memset(memory_, 0, size_);
    return std::get<iospace::arena::Books>(iospace::arena::Books::Create({memory_, size_}, {4096, granules}));
  }

  std::size_t size_;
  std::byte* memory_;
  iospace::arena::Books books_;
};

/// The same as processes share it: with the lock, and a record of each block.
class Shared {
 public:
  explicit Shared(std::uint32_t granules) {
    iospace::arena::Creation creation;
    creation.shape = {4096, granules};
    creation.memory_bytes = std::uint64_t{granules} * 4096;
    creation.allocate = false;
    const iospace::FileDescriptor file(::memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    auto created = iospace::arena::SharedArena::Create(file.get(), creation);
    arena_ = std::move(std::get<0>(created));
  }

  std::uint32_t Allocate(std::uint32_t length) {
    const auto outcome = arena_->Allocate({length}, 0);
    return outcome.code == iospace::arena::Code::kDone ? static_cast<std::uint32_t>(outcome.start) : kNone;
  }
  void Free(std::uint32_t start, std::uint32_t) { arena_->Free(start, 0, false); }

 private:
  std::unique_ptr<iospace::arena::SharedArena> arena_;
};

struct Workload {
  const char* name;
  std::uint64_t mebibytes;
  double fill;
  std::uint32_t shortest;
  std::uint32_t longest;
  bool is_mixed;  ///< A tenth of the runs are of 65 to 4096 granules.
  bool has_linear;
};

constexpr Workload kWorkloads[] = {
    {"16 MiB, 70 %, 1..64", 16, 0.70, 1, 64, false, true},
    {"1 GiB, 70 %, 1..64", 1024, 0.70, 1, 64, false, true},
    {"16 GiB, 70 %, 1..64", 16384, 0.70, 1, 64, false, false},
    {"64 GiB, 70 %, 1..64", 65536, 0.70, 1, 64, false, false},
    {"1 GiB, 90 %, 1", 1024, 0.90, 1, 1, false, true},
    {"1 GiB, 60 %, 256..4096", 1024, 0.60, 256, 4096, false, true},
    {"1 GiB, 85 %, 1..64", 1024, 0.85, 1, 64, false, true},
    {"1 GiB, 90 %, 1..64", 1024, 0.90, 1, 64, false, true},
    {"1 GiB, 93 %, 1..64", 1024, 0.93, 1, 64, false, true},
    {"1 GiB, 70 %, mixed", 1024, 0.70, 1, 64, true, true},
    {"1 GiB, 80 %, mixed", 1024, 0.80, 1, 64, true, true},
    {"1 GiB, 85 %, mixed", 1024, 0.85, 1, 64, true, true},
};

using Random = std::minstd_rand;

/// Nanoseconds of this thread alone: what else the machine does takes caches from it, but no time.
double Now() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

struct Block {
  std::uint32_t start;
  std::uint32_t length;
};

/// Keeps an arena filled so far: frees random blocks while it is fuller, else allocates.
template <typename Allocator>
void Run(const char* allocator, const Workload& workload, unsigned seed, std::uint64_t pairs) {
  const auto granules = static_cast<std::uint32_t>(workload.mebibytes * 256);
  const auto goal = static_cast<std::uint64_t>(workload.fill * granules);
  Allocator arena(granules);
  // The numbers are drawn before the clock runs.
  Random random(seed);
  constexpr std::size_t kNumbers = std::size_t{1} << 16;
  std::vector<std::uint32_t> lengths(kNumbers);
  std::vector<std::uint32_t> choices(kNumbers);
  std::uniform_int_distribution<std::uint32_t> small(workload.shortest, workload.longest);
  std::uniform_int_distribution<std::uint32_t> large(65, 4096);
  for (std::uint32_t& length : lengths)
    length = workload.is_mixed && random() % 10 == 0 ? large(random) : small(random);
  std::mt19937 choose(seed);
  for (std::uint32_t& choice : choices) choice = static_cast<std::uint32_t>(choose());

  std::vector<Block> blocks;
  blocks.reserve(granules);
  std::uint64_t used = 0;
  std::uint64_t requests = 0;
  std::uint64_t failures = 0;
  std::uint64_t large_requests = 0;
  std::uint64_t large_failures = 0;
  std::size_t number = 0;
  std::uint64_t steps = 0;
  // One request, after as many frees as make room for it below the goal.
  const auto step = [&] {
    const std::uint32_t length = lengths[number % kNumbers];
    while (used + length > goal && !blocks.empty()) {
      const auto at = static_cast<std::size_t>(
          (static_cast<std::uint64_t>(choices[++steps % kNumbers]) * blocks.size()) >> 32);
      arena.Free(blocks[at].start, blocks[at].length);
      used -= blocks[at].length;
      blocks[at] = blocks.back();
      blocks.pop_back();
    }
    ++number;
    const std::uint32_t start = arena.Allocate(length);
    ++requests;
    large_requests += length > 64 ? 1 : 0;
    if (start == kNone) {
      ++failures;
      large_failures += length > 64 ? 1 : 0;
      return;
    }
    blocks.push_back({start, length});
    used += length;
  };
  while (used + workload.longest <= goal && failures < granules) step();
  // To the steady state: each block replaced several times.
  const std::uint64_t settle = std::min<std::uint64_t>(blocks.size() * 6, pairs * 4);
  for (std::uint64_t i = 0; i < settle; ++i) step();
  requests = failures = large_requests = large_failures = 0;
  const double begin = Now();
  for (std::uint64_t i = 0; i < pairs; ++i) step();
  const double time = Now() - begin;
  static_cast<void>(std::printf(
      "{\"allocator\":\"%s\",\"workload\":\"%s\",\"seed\":%u,\"pair\":%.1f,\"failures\":%.5f,"
      "\"largeFailures\":%.5f}\n",
      allocator, workload.name, seed, time / static_cast<double>(pairs),
      static_cast<double>(failures) / static_cast<double>(requests),
      large_requests == 0 ? 0 : static_cast<double>(large_failures) / static_cast<double>(large_requests)));
  static_cast<void>(std::fflush(stdout));
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned rounds = argc > 2 && std::strcmp(argv[1], "--rounds") == 0
                              ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10))
                              : 5;
  // All allocators of a round after each other, so that what else the machine does meets them alike.
  for (unsigned seed = 1; seed <= rounds; ++seed) {
    for (const Workload& workload : kWorkloads) {
      const std::uint64_t pairs = workload.mebibytes > 1024 ? 1'000'000 : 300'000;
      Run<Iospace>("iospace", workload, seed, pairs);
      Run<Shared>("iospace, shared", workload, seed, pairs);
      Run<Bins>("OffsetAllocator", workload, seed, pairs);
      Run<Segregated>("TLSF", workload, seed, pairs);
      if (workload.has_linear)
        Run<Linear>("linear", workload, seed, workload.mebibytes > 16 ? pairs / 6 : pairs);
    }
  }
  return 0;
}
