/// Copies, fills, comparisons and cache maintenance against memmove(), memset() and memcmp(), and access by
/// access.
///
///     copy-test kernels                  the names of those that this processor has
///     copy-test SUITE KERNEL [SEED [STEP]]
///
/// With a STEP comparisons are of one offset in so many only, and what is random is less often: where a
/// machine is emulated they take minutes. Ends with 1 and says why at the first difference, with 3 where the
/// processor has no such kernel.
#include "copy.h"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <vector>

#include "../arena/support.h"
#include "cache.h"
#include "trace.h"

namespace {

using namespace iospace::copy;

constexpr std::size_t kGuard = 65536;
constexpr std::size_t kPage = 4096;

/// Whole pages between others that nobody can touch.
class Memory {
 public:
  explicit Memory(std::size_t size) : size_((size + kGuard - 1) / kGuard * kGuard) {
    void* const address =
        ::mmap(nullptr, size_ + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT(address != MAP_FAILED, "%zu bytes", size_);
    begin_ = static_cast<std::byte*>(address) + kGuard;
    EXPECT(::mprotect(begin_, size_, PROT_READ | PROT_WRITE) == 0, "%zu bytes", size_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::munmap(begin_ - kGuard, size_ + 2 * kGuard); }

  std::byte* begin() const { return begin_; }
  std::byte* end() const { return begin_ + size_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> all() const { return {begin_, size_}; }

  void Randomize(Random& random) const {
    for (std::size_t at = 0; at < size_; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(begin_ + at, &word, sizeof word);
    }
  }

 private:
  std::size_t size_;
  std::byte* begin_;
};

struct Kinds {
  Kind to;
  Kind from;
};

constexpr Kinds kAllKinds[] = {
    {Kind::kCached, Kind::kUncached}, {Kind::kUncached, Kind::kCached}, {Kind::kUncached, Kind::kUncached},
    {Kind::kCached, Kind::kDevice},   {Kind::kDevice, Kind::kCached},   {Kind::kDevice, Kind::kDevice},
    {Kind::kUncached, Kind::kDevice}, {Kind::kDevice, Kind::kUncached}, {Kind::kCached, Kind::kCached},
};

bool IsPortable(const Kernels& kernels) {
  return std::strcmp(kernels.name, "portable") == 0;
}

/// Whether these kernels have a part in it: a device's memory is everyone's alike.
bool Concerns(const Kernels& kernels, Kind to, Kind from) {
  const bool device = to == Kind::kDevice || from == Kind::kDevice;
  return device ? IsPortable(kernels) && to != Kind::kUncached && from != Kind::kUncached
                : to != Kind::kCached || from != Kind::kCached;
}

std::size_t step = 1;

/// Every offset and length up to 1 KiB.
constexpr std::size_t kSmall = 1024;

void ExpectEqual(const std::byte* left, const std::byte* right, std::size_t length, std::size_t offset,
                 std::size_t of) {
  if (std::memcmp(left, right, length) == 0) return;
  const auto at = static_cast<std::size_t>(std::mismatch(left, left + length, right).first - left);
  EXPECT(false, "differs at byte %zu: offset %zu, length %zu", at, offset, of);
}

/// Bytes beside a range that must stay as they are: two lines on each side.
constexpr std::size_t kBeside = 2 * kLine;

/// Memory of which small ranges are written, over and over.
class Canvas {
 public:
  explicit Canvas(Random& random) : memory_(3 * kSmall), before_(3 * kSmall) {
    for (auto& byte : before_) byte = static_cast<std::byte>(random());
    std::memcpy(out(), before_.data(), before_.size());
  }

  /// Where the bytes are. Behind the last nobody can touch anything.
  std::byte* out() const { return memory_.end() - before_.size(); }
  std::size_t size() const { return before_.size(); }

  /// That the range at `at` is `expected`, and what is beside it as before; then all is as before again.
  void ExpectOnly(std::size_t at, const std::byte* expected, std::size_t length) const {
    const std::size_t begin = at - std::min(at, kBeside);
    const std::size_t end = std::min(size(), at + length + kBeside);
    ExpectEqual(out() + begin, before_.data() + begin, at - begin, at, length);
    ExpectEqual(out() + at, expected, length, at, length);
    ExpectEqual(out() + at + length, before_.data() + at + length, end - at - length, at, length);
    std::memcpy(out() + at, before_.data() + at, length);
  }

 private:
  Memory memory_;
  std::vector<std::byte> before_;
};

void SmallCopies(const Kernels& kernels, Random& random) {
  const Memory source(3 * kSmall);
  const Canvas target(random);
  source.Randomize(random);
  for (const auto [to, from] : kAllKinds) {
    if (!Concerns(kernels, to, from)) continue;
    for (std::size_t offset = 0; offset <= kSmall; ++offset) {
      for (std::size_t length = 0; length <= kSmall; ++length) {
        // Every alignment of the one against the other comes up, and the first and the last byte that there
        // are.
        const std::size_t at =
            (offset * 29 + length * 7) % kSmall + (length % 2 == 0 ? 0 : target.size() - 2 * kSmall);
        const std::byte* const in =
            length % 3 == 0 ? source.end() - length - offset : source.begin() + offset;
        Copy(kernels, {target.out() + at, to}, {in, from}, length);
        target.ExpectOnly(at, in, length);
      }
    }
  }
}

void SmallFills(const Kernels& kernels, Random& random) {
  const Canvas target(random);
  std::vector<std::byte> expected(kSmall);
  for (const Kind kind : {Kind::kUncached, Kind::kDevice, Kind::kCached}) {
    if (kind != Kind::kUncached && !IsPortable(kernels)) continue;
    for (std::size_t offset = 0; offset <= kSmall; ++offset) {
      for (std::size_t length = 0; length <= kSmall; ++length) {
        const auto value = static_cast<std::byte>(offset + length);
        const std::size_t at = length % 3 == 0 ? target.size() - length - offset : offset;
        std::memset(expected.data(), static_cast<int>(value), length);
        Fill(kernels, {target.out() + at, kind}, value, length);
        target.ExpectOnly(at, expected.data(), length);
      }
    }
  }
}

void SmallComparisons(const Kernels& kernels, Random& random) {
  const Memory left(3 * kSmall);
  const Memory right(3 * kSmall);
  left.Randomize(random);
  for (const auto [one, other] : kAllKinds) {
    if (!Concerns(kernels, one, other) || other == Kind::kCached) continue;
    for (std::size_t offset = 0; offset <= kSmall; offset += step) {
      const std::size_t shift = offset * 29 % kSmall;
      std::byte* const a = left.end() - 2 * kSmall + offset;
      std::byte* const b = right.end() - 2 * kSmall + shift;
      std::memcpy(b, a, kSmall);
      for (std::size_t length = 0; length <= kSmall; ++length) {
        const auto same = Compare(kernels, {a, one}, {b, other}, length);
        EXPECT(!same, "equal, but differs at %zu: offset %zu, length %zu", *same, offset, length);
      }
      for (std::size_t at = offset % 31; at < kSmall; at += 31) {
        b[at] ^= std::byte{0x10};
        const std::size_t length = at + 1 + Below(random, kSmall - at);
        const auto found = Compare(kernels, {a, one}, {b, other}, length);
        EXPECT(found == at, "differs at %zu: offset %zu, length %zu", at, offset, length);
        EXPECT(!Compare(kernels, {a, one}, {b, other}, at), "equal before %zu", at);
        b[at] ^= std::byte{0x10};
      }
    }
  }
}

/// Beyond 1 KiB, up to where copies of cached memory change their way and beyond.
void LargeCopies(const Kernels& kernels, Random& random) {
  constexpr std::size_t kLarge = std::size_t{10} << 20;
  const Memory source(kLarge);
  const Memory target(kLarge);
  std::vector<std::byte> expected(target.size());
  source.Randomize(random);
  for (int time = 0; time < 60; ++time) {
    const Kinds kinds = kAllKinds[Below(random, std::size(kAllKinds))];
    const std::size_t most = time < 40 ? 65536 : kLarge;
    const std::size_t length = time % 10 == 9 ? std::size_t{9} << 20 : kSmall + Below(random, most - kSmall);
    // Often to the last byte, and in a line behind the source within its page.
    const std::size_t from =
        Below(random, 3) == 0 ? source.size() - length : Below(random, source.size() - length);
    std::size_t to = Below(random, target.size() - length);
    if (Below(random, 3) == 0) to = target.size() - length;
    if (Below(random, 3) == 0) to = std::min<std::size_t>(target.size() - length, from + Below(random, 65));
    std::memset(target.begin(), 0x5a, target.size());
    std::memset(expected.data(), 0x5a, expected.size());
    std::memcpy(expected.data() + to, source.begin() + from, length);
    Copy(kernels, {target.begin() + to, kinds.to}, {source.begin() + from, kinds.from}, length);
    ExpectEqual(target.begin(), expected.data(), target.size(), from, length);
    EXPECT(!Compare(kernels, {target.begin() + to, kinds.to}, {source.begin() + from, kinds.from}, length),
           "equal: length %zu", length);
    const std::size_t at = Below(random, length);
    target.begin()[to + at] ^= std::byte{1};
    EXPECT(
        Compare(kernels, {target.begin() + to, kinds.to}, {source.begin() + from, kinds.from}, length) == at,
        "differs at %zu: length %zu", at, length);
    target.begin()[to + at] ^= std::byte{1};
    std::memset(expected.data() + to, 0xc3, length);
    Fill(kernels, {target.begin() + to, kinds.to}, std::byte{0xc3}, length);
    ExpectEqual(target.begin(), expected.data(), target.size(), to, length);
  }
}

/// Both ranges in one memory.
void Overlaps(const Kernels& kernels, Random& random) {
  const Memory memory(std::size_t{4} << 20);
  std::vector<std::byte> expected(memory.size());
  const int times = step == 1 ? 2000 : 500;
  for (int time = 0; time < times; ++time) {
    const Kinds kinds = kAllKinds[Below(random, std::size(kAllKinds))];
    const std::size_t most = time < times - 30 ? 20000 : memory.size();
    const std::size_t length = Below(random, most);
    const std::size_t near = std::min<std::size_t>(memory.size() - length, time % 2 == 0 ? 200 : most);
    const std::size_t from = Below(random, near + 1);
    const std::size_t to = Below(random, near + 1);
    if (time % 100 == 0 || length > 20000) memory.Randomize(random);
    const std::size_t end = std::max(from, to) + length;
    std::memcpy(expected.data(), memory.begin(), end);
    std::memmove(expected.data() + to, memory.begin() + from, length);
    Copy(kernels, {memory.begin() + to, kinds.to}, {memory.begin() + from, kinds.from}, length);
    ExpectEqual(memory.begin(), expected.data(), end, from, length);
  }
}

// Access by access.

/// The bytes of one load or store of whole lines.
std::size_t WidthOf(const Kernels& kernels) {
  const std::map<std::string, std::size_t> widths = {
      {"avx512", 64}, {"avx2", 32}, {"sse4.1", 16}, {"neon", 32}, {"portable", sizeof(void*)}};
  return widths.at(kernels.name);
}

std::vector<Access> Of(const std::vector<Access>& accesses, std::span<const std::byte> range) {
  std::vector<Access> found;
  for (const Access& access : accesses) {
    if (access.address >= range.data() && access.address < range.data() + range.size())
      found.push_back(access);
  }
  return found;
}

/// Whether every access is aligned, and where it begins the one before has ended, from `begin` to `end`.
void ExpectInOrder(const std::vector<Access>& accesses, const std::byte* begin, const std::byte* end,
                   bool store) {
  const std::byte* at = begin;
  for (const Access& access : accesses) {
    EXPECT(access.store == store, "a %s of %zu bytes", access.store ? "store" : "load", access.width);
    EXPECT(access.address == at, "at %td instead of %td", access.address - begin, at - begin);
    EXPECT(reinterpret_cast<std::uintptr_t>(at) % access.width == 0, "%zu bytes at %td", access.width,
           at - begin);
    at += access.width;
  }
  EXPECT(at == end, "%td bytes instead of %td", at - begin, end - begin);
}

const std::byte* LineOf(const std::byte* address) {
  return address - reinterpret_cast<std::uintptr_t>(address) % kLine;
}

/// Each line once, whole, in order, by the widest loads.
void ExpectWholeLines(const Kernels& kernels, const std::vector<Access>& accesses, const std::byte* begin,
                      std::size_t length) {
  if (length == 0) {
    EXPECT(accesses.empty(), "%zu loads for nothing", accesses.size());
    return;
  }
  ExpectInOrder(accesses, LineOf(begin), LineOf(begin + length - 1) + kLine, false);
  for (const Access& access : accesses)
    EXPECT(access.width == WidthOf(kernels), "a load of %zu bytes", access.width);
}

/// Each byte once, in order, whole lines by the widest stores.
void ExpectStores(const Kernels& kernels, const std::vector<Access>& accesses, const std::byte* begin,
                  std::size_t length) {
  ExpectInOrder(accesses, begin, begin + length, true);
  for (const Access& access : accesses) {
    const std::byte* const line = LineOf(access.address);
    if (line >= begin && line + kLine <= begin + length)
      EXPECT(access.width == WidthOf(kernels), "a store of %zu bytes in a whole line", access.width);
  }
}

void ExpectExact(const std::vector<Access>& accesses, const std::byte* begin, std::size_t length,
                 bool store) {
  ExpectInOrder(accesses, begin, begin + length, store);
  for (const Access& access : accesses) EXPECT(access.width <= sizeof(void*), "%zu bytes", access.width);
}

void ExpectAccesses(const Kernels& kernels, Kind kind, const std::vector<Access>& accesses,
                    const std::byte* begin, std::size_t length, bool store) {
  if (kind == Kind::kDevice)
    ExpectExact(accesses, begin, length, store);
  else if (store)
    ExpectStores(kernels, accesses, begin, length);
  else
    ExpectWholeLines(kernels, accesses, begin, length);
}

/// What is read is not what was there before the call, in a buffer of the processor.
void ExpectFence(const std::vector<Access>& accesses) {
  if (!accesses.empty()) EXPECT(accesses.front().fenced, "no fence before %zu reads", accesses.size());
}

void Accesses(const Kernels& kernels, Random& random) {
  if (!CanTrace()) Skip("no decoder for the instructions of this architecture");
  const Memory source(3 * kPage);
  const Memory target(3 * kPage);
  for (const Kinds kinds : kAllKinds) {
    // Not by a binding, which a lambda cannot have.
    const Kind to = kinds.to;
    const Kind from = kinds.from;
    const int times = step == 1 ? 14 : 5;
    for (int time = 0; time < times; ++time) {
      // Longer than what passes at a time, too.
      const std::size_t length = time < times * 3 / 4 ? Below(random, 200) : Below(random, 9000);
      const std::byte* const in = source.begin() + Below(random, 3000);
      std::byte* const out = target.begin() + Below(random, 3000);
      std::vector<std::span<std::byte>> ranges;
      if (from != Kind::kCached) ranges.push_back(source.all());
      if (to != Kind::kCached) ranges.push_back(target.all());
      const bool fences = CanSeeFences() && time < 2;
      const bool read_past_caches = fences && from != Kind::kCached;
      const auto copied = Trace(
          ranges,
          [&] {
            Copy(kernels, {out, to}, {in, from}, length);
          },
          read_past_caches);
      if (read_past_caches) ExpectFence(copied);
      if (from != Kind::kCached) ExpectAccesses(kernels, from, Of(copied, source.all()), in, length, false);
      if (to != Kind::kCached) ExpectAccesses(kernels, to, Of(copied, target.all()), out, length, true);
      if (to == Kind::kCached || from != Kind::kCached) continue;
      const auto filled = Trace(ranges, [&] { Fill(kernels, {out, to}, std::byte{7}, length); });
      ExpectAccesses(kernels, to, filled, out, length, true);
      const auto read = Trace(ranges, [&] { Compare(kernels, {out, to}, {out, to}, 0); });
      EXPECT(read.empty(), "%zu accesses for nothing", read.size());
      std::memset(source.begin(), 7, source.size());
      const auto compared = Trace(
          ranges,
          [&] {
            Compare(kernels, {out, to}, {in, from}, length);
          },
          fences);
      if (fences) ExpectFence(compared);
      ExpectAccesses(kernels, to, compared, out, length, false);
    }
  }
}

/// No line beyond the range is touched, and nothing is changed.
void Maintenance(const Kernels&, Random& random) {
  using iospace::cache::Operation;
  const std::size_t line = iospace::cache::OfProcessor().line;
  if (line == 0) Skip("this processor, or its kernel, has no cache maintenance for programs");
  EXPECT((line & (line - 1)) == 0 && line >= 16 && line <= 4096, "a line of %zu bytes", line);
  const Memory memory(3 * kPage);
  memory.Randomize(random);
  const std::vector<std::byte> before(memory.begin(), memory.end());
  for (const Operation operation : {Operation::kClean, Operation::kInvalidate, Operation::kFlush}) {
    for (std::size_t length = 0; length <= 300; ++length) {
      for (std::byte* const begin :
           {memory.begin(), memory.end() - length, memory.begin() + Below(random, 4096)}) {
        // Dirty, but not other than before.
        if (length > 0) *static_cast<volatile std::byte*>(begin) = *begin;
        EXPECT(iospace::cache::Maintain(operation, {begin, length}), "length %zu", length);
      }
    }
    EXPECT(std::memcmp(memory.begin(), before.data(), before.size()) == 0, "changed");
  }
}

using Suite = void (*)(const Kernels&, Random&);

const std::map<std::string, Suite> kSuites = {
    {"copies", SmallCopies},      {"fills", SmallFills},  {"comparisons", SmallComparisons},
    {"large", LargeCopies},       {"overlaps", Overlaps}, {"accesses", Accesses},
    {"maintenance", Maintenance},
};

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "kernels") {
    for (const Kernels& kernels : All()) static_cast<void>(std::printf("%s\n", kernels.name));
    return 0;
  }
  const auto suite = kSuites.find(name);
  const std::string by = argc > 2 ? argv[2] : "";
  if (suite == kSuites.end()) {
    for (const auto& [known, test] : kSuites) static_cast<void>(std::fprintf(stderr, "%s\n", known.c_str()));
    return 2;
  }
  Random random(argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1);
  if (argc > 4) step = std::strtoull(argv[4], nullptr, 10);
  for (const Kernels& kernels : All()) {
    if (by == kernels.name) {
      suite->second(kernels, random);
      return 0;
    }
  }
  Skip("this processor has no " + by);
}
