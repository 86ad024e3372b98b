/// The workloads in which the arenas are measured, and what keeps an arena filled as they want it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <random>
#include <vector>

#include "allocators.h"

struct Workload {
  const char* name;
  std::uint64_t mebibytes;
  double fill;
  std::uint32_t shortest;
  std::uint32_t longest;
  bool is_mixed;  ///< A tenth of the runs are of 65 to 4096 granules.
  bool has_linear;

  std::uint32_t granules() const { return static_cast<std::uint32_t>(mebibytes * 256); }
};

/// What was asked for, and what failed of it.
struct Counts {
  std::uint64_t requests = 0;
  std::uint64_t failures = 0;
  std::uint64_t large_requests = 0;
  std::uint64_t large_failures = 0;
};

/// Nanoseconds of this thread alone: what else the machine does takes caches from it, but no time.
inline double ThreadTime() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/// Nanoseconds by a clock that all processes share.
inline double WallTime() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/// Keeps an arena filled so far: frees random blocks while it is fuller, else allocates.
template <typename Allocator>
class Tenant {
 public:
  /// `share` is the part of the workload's fill that this one has.
  Tenant(Allocator& arena, const Workload& workload, unsigned seed, double share = 1)
      : arena_(arena),
        workload_(workload),
        goal_(static_cast<std::uint64_t>(share * workload.fill * workload.granules())),
        lengths_(kNumbers),
        choices_(kNumbers) {
    // The numbers are drawn before any clock runs.
    std::minstd_rand random(seed);
    std::uniform_int_distribution<std::uint32_t> small(workload.shortest, workload.longest);
    std::uniform_int_distribution<std::uint32_t> large(65, 4096);
    for (std::uint32_t& length : lengths_)
      length = workload.is_mixed && random() % 10 == 0 ? large(random) : small(random);
    std::mt19937 choose(seed);
    for (std::uint32_t& choice : choices_) choice = static_cast<std::uint32_t>(choose());
    blocks_.reserve(workload.granules());
  }

  /// Fills the arena, and replaces each block several times, but no more than so many.
  void Settle(std::uint64_t most) {
    while (used_ + workload_.longest <= goal_ && counts_.failures < workload_.granules()) Step();
    const std::uint64_t steps = std::min<std::uint64_t>(blocks_.size() * 6, most);
    for (std::uint64_t i = 0; i < steps; ++i) Step();
    counts_ = {};
  }

  /// One request, after as many frees as make room for it below the goal.
  void Step() {
    const std::uint32_t length = lengths_[number_++ % kNumbers];
    while (used_ + length > goal_ && !blocks_.empty()) FreeOne();
    const std::uint32_t start = arena_.Allocate(length);
    ++counts_.requests;
    counts_.large_requests += length > 64 ? 1 : 0;
    if (start == kNone) {
      ++counts_.failures;
      counts_.large_failures += length > 64 ? 1 : 0;
      return;
    }
    blocks_.push_back({start, length});
    used_ += length;
  }

  const Counts& counts() const { return counts_; }
  std::size_t blocks() const { return blocks_.size(); }

 private:
  struct Block {
    std::uint32_t start;
    std::uint32_t length;
  };

  static constexpr std::size_t kNumbers = std::size_t{1} << 16;
  static constexpr std::size_t kAhead = 8;

  /// Who frees a block has it at hand: which one is chosen some frees before, and fetched. So a table of
  /// hundreds of thousands of blocks takes room in the caches, but no allocator's time is that of waiting for
  /// it.
  void FreeOne() {
    std::uint32_t& next = chosen_[steps_ % kAhead];
    const std::size_t at = std::min<std::size_t>(next, blocks_.size() - 1);
    next = static_cast<std::uint32_t>(
        (static_cast<std::uint64_t>(choices_[++steps_ % kNumbers]) * blocks_.size()) >> 32);
    __builtin_prefetch(&blocks_[next]);
    arena_.Free(blocks_[at].start, blocks_[at].length);
    used_ -= blocks_[at].length;
    blocks_[at] = blocks_.back();
    blocks_.pop_back();
  }

  Allocator& arena_;
  const Workload& workload_;
  std::uint64_t goal_;
  std::vector<std::uint32_t> lengths_;
  std::vector<std::uint32_t> choices_;
  std::vector<Block> blocks_;
  std::array<std::uint32_t, kAhead> chosen_{};
  std::uint64_t used_ = 0;
  std::size_t number_ = 0;
  std::uint64_t steps_ = 0;
  Counts counts_;
};

/// Measures pairs of an allocation and what is freed for it, and writes a line.
template <typename Allocator>
void Measure(const char* name, Allocator& arena, const Workload& workload, unsigned seed,
             std::uint64_t pairs) {
  Tenant<Allocator> tenant(arena, workload, seed);
  tenant.Settle(pairs * 4);
  const double begin = ThreadTime();
  for (std::uint64_t i = 0; i < pairs; ++i) tenant.Step();
  const double time = ThreadTime() - begin;
  const Counts& counts = tenant.counts();
  const auto share = [](std::uint64_t part, std::uint64_t all) {
    return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
  };
  static_cast<void>(std::printf(
      "{\"of\":\"%s\",\"in\":\"%s\",\"pair\":%.1f,\"failures\":%.5f,\"largeFailures\":%.5f,\"blocks\":%zu}\n",
      name, workload.name, time / static_cast<double>(pairs), share(counts.failures, counts.requests),
      share(counts.large_failures, counts.large_requests), tenant.blocks()));
  static_cast<void>(std::fflush(stdout));
}
