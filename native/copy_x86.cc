/// The kernels of x86: SSE4.1, AVX2, AVX-512, and the strings of the processor for much cached memory.
#include "copy_kernels.h"

#ifdef __x86_64__

#include <cpuid.h>

#include <array>
#include <cstring>

namespace iospace::copy {
namespace {

// The lines in assembly: each load is one instruction, once, in its place, whatever the compiler thinks; and
// nothing here has to be compiled for a processor that has it. MOVNTDQA fetches a whole line of
// write-combined memory into a buffer, from which the other loads of that line are served; NT stores fill
// such a buffer and write it out whole.

/// 16 bytes at once.
struct Sse {
  static void Load(std::byte* to, const std::byte* from) {
    asm volatile(
        "movntdqa (%1), %%xmm0\n\t"
        "movntdqa 16(%1), %%xmm1\n\t"
        "movntdqa 32(%1), %%xmm2\n\t"
        "movntdqa 48(%1), %%xmm3\n\t"
        "movdqu %%xmm0, (%0)\n\t"
        "movdqu %%xmm1, 16(%0)\n\t"
        "movdqu %%xmm2, 32(%0)\n\t"
        "movdqu %%xmm3, 48(%0)"
        :
        : "r"(to), "r"(from)
        : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
  }
  static void Store(std::byte* to, const std::byte* from) {
    asm volatile(
        "movdqu (%1), %%xmm0\n\t"
        "movdqu 16(%1), %%xmm1\n\t"
        "movdqu 32(%1), %%xmm2\n\t"
        "movdqu 48(%1), %%xmm3\n\t"
        "movntdq %%xmm0, (%0)\n\t"
        "movntdq %%xmm1, 16(%0)\n\t"
        "movntdq %%xmm2, 32(%0)\n\t"
        "movntdq %%xmm3, 48(%0)"
        :
        : "r"(to), "r"(from)
        : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
  }
  static void End() {}
};

/// 32 bytes at once.
struct Avx2 {
  static void Load(std::byte* to, const std::byte* from) {
    asm volatile(
        "vmovntdqa (%1), %%ymm0\n\t"
        "vmovntdqa 32(%1), %%ymm1\n\t"
        "vmovdqu %%ymm0, (%0)\n\t"
        "vmovdqu %%ymm1, 32(%0)"
        :
        : "r"(to), "r"(from)
        : "xmm0", "xmm1", "memory");
  }
  static void Store(std::byte* to, const std::byte* from) {
    asm volatile(
        "vmovdqu (%1), %%ymm0\n\t"
        "vmovdqu 32(%1), %%ymm1\n\t"
        "vmovntdq %%ymm0, (%0)\n\t"
        "vmovntdq %%ymm1, 32(%0)"
        :
        : "r"(to), "r"(from)
        : "xmm0", "xmm1", "memory");
  }
  /// What is compiled for SSE is slow while the upper halves are in use.
  static void End() { asm volatile("vzeroupper" ::: "memory"); }
};

/// A line at once.
struct Avx512 {
  static void Load(std::byte* to, const std::byte* from) {
    asm volatile(
        "vmovntdqa (%1), %%zmm0\n\t"
        "vmovdqu64 %%zmm0, (%0)"
        :
        : "r"(to), "r"(from)
        : "xmm0", "memory");
  }
  static void Store(std::byte* to, const std::byte* from) {
    asm volatile(
        "vmovdqu64 (%1), %%zmm0\n\t"
        "vmovntdq %%zmm0, (%0)"
        :
        : "r"(to), "r"(from)
        : "xmm0", "memory");
  }
  static void End() { Avx2::End(); }
};

template <typename Set>
void LoadLines(std::byte* to, const std::byte* from, std::size_t lines) {
  for (; lines > 0; --lines, to += kLine, from += kLine) Set::Load(to, from);
  Set::End();
}

template <typename Set>
void StoreLines(std::byte* to, const std::byte* from, std::size_t step, std::size_t lines) {
  for (; lines > 0; --lines, to += kLine, from += step) Set::Store(to, from);
  Set::End();
}

/// Whether the processor moves strings of bytes by itself in the best way that it has (ERMS).
bool MovesStrings() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kErms = 1U << 9;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & kErms) != 0;
}

template <typename Set>
void Bulk(std::byte* to, const std::byte* from, std::size_t length) {
  static const bool moves_strings = MovesStrings();
  constexpr std::size_t kPage = 4096;
  /// From here on stores that leave the caches alone win, where strings are not moved well.
  constexpr std::size_t kNonTemporal = std::size_t{8} << 20;

  const std::size_t lead = -reinterpret_cast<std::uintptr_t>(to) % kLine;
  std::memcpy(to, from, lead);
  to += lead;
  from += lead;
  length -= lead;
  // Zen 4 and 5 move a string slowly to a place that is, within its page, less than a line behind where it
  // comes from.
  const std::size_t behind =
      (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) % kPage;
  if (moves_strings && (behind == 0 || behind >= kLine)) {
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
    return;
  }
  if (length < kNonTemporal) {
    std::memcpy(to, from, length);
    return;
  }
  const std::size_t whole = length - length % kLine;
  StoreLines<Set>(to, from, kLine, whole / kLine);
  std::memcpy(to + whole, from + whole, length - whole);
}

template <typename Set>
constexpr Kernels KernelsOf(const char* name) {
  return {name, LoadLines<Set>, StoreLines<Set>, Bulk<Set>};
}

constexpr std::array<Kernels, 3> kAll = {KernelsOf<Avx512>("avx512"), KernelsOf<Avx2>("avx2"),
                                         KernelsOf<Sse>("sse4.1")};

/// Each has those that follow it.
std::size_t First() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") != 0) return 0;
  if (__builtin_cpu_supports("avx2") != 0) return 1;
  return __builtin_cpu_supports("sse4.1") != 0 ? 2 : kAll.size();
}

}  // namespace

std::span<const Kernels> OfProcessor() {
  return std::span(kAll).subspan(First());
}

}  // namespace iospace::copy

#endif
