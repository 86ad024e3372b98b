/// The core of an arena beside other allocators: a JSON line for each of them and each workload.
///
///     arena-bench SEED PAIRS
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>

#include "allocators.h"
#include "arena_books.h"
#include "workload.h"

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

/// Nothing but the table of blocks: what of each figure is the measuring.
class Nothing {
 public:
  explicit Nothing(std::uint32_t granules) : granules_(granules) {}
  std::uint32_t Allocate(std::uint32_t length) {
    at_ += length;
    if (at_ >= granules_) at_ -= granules_;
    return at_;
  }
  void Free(std::uint32_t start, std::uint32_t length) { at_ ^= (start ^ length) & 1; }

 private:
  std::uint32_t granules_;
  std::uint32_t at_ = 0;
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

template <typename Allocator>
void Run(const char* name, const Workload& workload, unsigned seed, std::uint64_t pairs) {
  Allocator arena(workload.granules());
  Measure(name, arena, workload, seed, pairs);
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  if (arguments.size() < 3) return 2;
  const auto seed = static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10));
  const std::uint64_t some = std::strtoull(arguments[2], nullptr, 10);
  // All allocators of a workload after each other, so that what else the machine does meets them alike.
  for (const Workload& workload : kWorkloads) {
    const std::uint64_t pairs = workload.mebibytes > 1024 ? some * 3 : some;
    Run<Iospace>("iospace", workload, seed, pairs);
    Run<Bins>("OffsetAllocator", workload, seed, pairs);
    Run<Segregated>("TLSF", workload, seed, pairs);
    Run<Nothing>("nothing", workload, seed, pairs);
    if (workload.has_linear)
      Run<Linear>("linear", workload, seed, workload.mebibytes > 16 ? pairs / 6 : pairs);
  }
  return 0;
}
