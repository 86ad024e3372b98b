#include "cache.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__riscv)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace iospace::cache {
namespace {

/// Runs over the lines that a range touches.
template <typename Line>
void ForLines(std::span<const std::byte> range, std::size_t line, Line maintain) {
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
  const std::uintptr_t end = begin + range.size();
  for (std::uintptr_t at = begin - begin % line; at < end; at += line) maintain(at);
}

#if defined(__x86_64__)

/// The instructions that there are for cleaning and flushing, by CPUID. CLFLUSH is slower, for each waits for
/// the one before.
enum class Best : unsigned char { kNone, kClflush, kClflushopt, kClwb };

struct Found {
  Best clean = Best::kNone;
  Best flush = Best::kNone;
  std::size_t line = 0;
};

Found Find() {
  Found found;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kClfsh = 1U << 19;
  constexpr unsigned kClflushopt = 1U << 23;
  constexpr unsigned kClwb = 1U << 24;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (edx & kClfsh) == 0) return found;
  found.line = std::size_t{8} * ((ebx >> 8) & 0xff);
  if (found.line == 0) return found;
  found.clean = found.flush = Best::kClflush;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;
  if ((ebx & kClflushopt) != 0) found.clean = found.flush = Best::kClflushopt;
  if ((ebx & kClwb) != 0) found.clean = Best::kClwb;
  return found;
}

const Found kFound = Find();

const char* NameOf(Best best) {
  switch (best) {
    case Best::kClflush:
      return "clflush";
    case Best::kClflushopt:
      return "clflushopt";
    case Best::kClwb:
      return "clwb";
    default:
      return nullptr;
  }
}

void FullFence() {
  asm volatile("mfence" ::: "memory");
}

bool MaintainLines(Operation operation, std::span<const std::byte> range) {
  const Best best = operation == Operation::kClean ? kFound.clean : kFound.flush;
  switch (best) {
    case Best::kClwb:
      ForLines(range, kFound.line, [](std::uintptr_t at) {
        asm volatile("clwb (%0)" : : "r"(at) : "memory");
      });
      break;
    case Best::kClflushopt:
      ForLines(range, kFound.line, [](std::uintptr_t at) {
        asm volatile("clflushopt (%0)" : : "r"(at) : "memory");
      });
      break;
    case Best::kClflush:
      // On AMD's processors nothing less orders it with stores, not even with those of its own line.
      FullFence();
      ForLines(range, kFound.line, [](std::uintptr_t at) {
        asm volatile("clflush (%0)" : : "r"(at) : "memory");
      });
      break;
    default:
      return false;
  }
  // Stores that follow must find the lines written back; reads that follow an invalidation must not come
  // before it.
  if (operation == Operation::kClean && best != Best::kClflush)
    asm volatile("sfence" ::: "memory");
  else
    FullFence();
  return true;
}

Instructions Describe() {
  const char* const flush = NameOf(kFound.flush);
  return {NameOf(kFound.clean), flush, flush, kFound.line};
}

#elif defined(__aarch64__)

/// The smallest line of all data caches, which CTR_EL0 has as the logarithm of words.
std::size_t SmallestLine() {
  std::uint64_t type = 0;
  asm volatile("mrs %0, ctr_el0" : "=r"(type));
  return std::size_t{4} << ((type >> 16) & 0xf);
}

const std::size_t kLine = SmallestLine();

// Linux lets programs use these, and itself does them where an erratum forbids that. DC IVAC is the kernel's
// alone.
bool MaintainLines(Operation operation, std::span<const std::byte> range) {
  if (operation == Operation::kClean)
    ForLines(range, kLine, [](std::uintptr_t at) { asm volatile("dc cvac, %0" : : "r"(at) : "memory"); });
  else
    ForLines(range, kLine, [](std::uintptr_t at) { asm volatile("dc civac, %0" : : "r"(at) : "memory"); });
  asm volatile("dsb sy" ::: "memory");
  return true;
}

Instructions Describe() {
  return {"dc cvac", "dc civac", "dc civac", kLine};
}

#elif defined(__riscv)

/// The size of a block of Zicbom, or 0 where the kernel does not let programs use it, as older ones do not.
std::size_t BlockSize() {
  struct Pair {
    std::int64_t key;
    std::uint64_t value;
  };
  // Of asm/hwprobe.h; older ones lack some.
  constexpr long kCall = 258;
  constexpr std::int64_t kExtensions = 4;
  constexpr std::uint64_t kZicbom = std::uint64_t{1} << 55;
  constexpr std::int64_t kZicbomBlockSize = 12;
  Pair pairs[] = {{kExtensions, 0}, {kZicbomBlockSize, 0}};
  // A key that the kernel does not know becomes -1.
  if (::syscall(kCall, pairs, 2, 0, nullptr, 0) != 0 || pairs[0].key < 0 || pairs[1].key < 0) return 0;
  return (pairs[0].value & kZicbom) != 0 ? pairs[1].value : 0;
}

const std::size_t kBlock = BlockSize();

// CBO.CLEAN and CBO.FLUSH by their encoding, which older assemblers have no names for. CBO.INVAL is the
// kernel's alone.
bool MaintainLines(Operation operation, std::span<const std::byte> range) {
  if (kBlock == 0) return false;
  if (operation == Operation::kClean)
    ForLines(range, kBlock, [](std::uintptr_t at) {
      asm volatile(".insn i 0x0f, 2, x0, %0, 1" : : "r"(at) : "memory");
    });
  else
    ForLines(range, kBlock, [](std::uintptr_t at) {
      asm volatile(".insn i 0x0f, 2, x0, %0, 2" : : "r"(at) : "memory");
    });
  asm volatile("fence iorw, iorw" ::: "memory");
  return true;
}

Instructions Describe() {
  if (kBlock == 0) return {};
  return {"cbo.clean", "cbo.flush", "cbo.flush", kBlock};
}

#else

bool MaintainLines(Operation, std::span<const std::byte>) {
  return false;
}

Instructions Describe() {
  return {};
}

#endif

}  // namespace

const Instructions& OfProcessor() {
  static const Instructions instructions = Describe();
  return instructions;
}

bool Maintain(Operation operation, std::span<const std::byte> range) {
  return MaintainLines(operation, range);
}

}  // namespace iospace::cache
