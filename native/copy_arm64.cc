/// The kernels of 64-bit Arm: NEON.
#include "copy_kernels.h"

#ifdef __aarch64__

namespace iospace::copy {
namespace {

/// By pairs of the widest registers, in assembly: what the compiler makes of intrinsics may be split or
/// merged. Not by those that hint at no reuse (LDNP), which may overtake the load that their address came
/// from.
void MoveLine(std::byte* to, const std::byte* from) {
  asm volatile(
      "ldp q0, q1, [%1]\n\t"
      "ldp q2, q3, [%1, #32]\n\t"
      "stp q0, q1, [%0]\n\t"
      "stp q2, q3, [%0, #32]"
      :
      : "r"(to), "r"(from)
      : "v0", "v1", "v2", "v3", "memory");
}

void Load(std::byte* to, const std::byte* from, std::size_t lines) {
  for (; lines > 0; --lines, to += kLine, from += kLine) MoveLine(to, from);
}

void Store(std::byte* to, const std::byte* from, std::size_t step, std::size_t lines) {
  for (; lines > 0; --lines, to += kLine, from += step) MoveLine(to, from);
}

constexpr Kernels kNeon = {"neon", Load, Store, nullptr};

}  // namespace

std::span<const Kernels> OfProcessor() {
  return {&kNeon, 1};
}

}  // namespace iospace::copy

#endif
