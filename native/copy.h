/// Copies, fills and compares memory whatever its type is: memory that no cache holds is read by whole lines,
/// each once and in order, and written by aligned stores; a device's by aligned accesses of at most a word.
/// No JavaScript.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace iospace::copy {

/// What memory is to the processor, as far as that decides how to reach it.
enum class Kind : std::uint8_t {
  kCached,
  /// In no cache: uncached, write-combined. A read costs as much for a line as for a byte.
  kUncached,
  /// Strict: no access may be unaligned, wider than a word, or reach beyond what was asked for.
  kDevice,
};

/// What is read or written at once.
inline constexpr std::size_t kLine = 64;

/// How one instruction set moves whole lines. Nothing here checks or fences.
struct Kernels {
  const char* name;
  /// Reads lines that no cache holds, each once, in order, by the widest loads; `to` is cached, and may be
  /// unaligned.
  void (*load)(std::byte* to, const std::byte* from, std::size_t lines);
  /// Writes lines past the caches; `from` is cached, may be unaligned, and moves on by `step` a line: kLine,
  /// or 0 to write one line again and again.
  void (*store)(std::byte* to, const std::byte* from, std::size_t step, std::size_t lines);
  /// Copies more than fits the caches, cached memory that does not overlap; null where memcpy() does that
  /// best.
  void (*bulk)(std::byte* to, const std::byte* from, std::size_t length);
};

/// Those of this processor, the best first, and last the portable ones, which every processor has.
std::span<const Kernels> All();

/// What `bulk` is for.
inline constexpr std::size_t kBulk = std::size_t{1} << 20;

struct Place {
  std::byte* address;
  Kind kind;
};

struct ConstPlace {
  const std::byte* address;
  Kind kind;
};

/// Where the ranges overlap, as if `from` were copied elsewhere first.
void Copy(const Kernels& kernels, Place to, ConstPlace from, std::size_t length);

void Fill(const Kernels& kernels, Place to, std::byte value, std::size_t length);

/// The first byte that differs.
std::optional<std::size_t> Compare(const Kernels& kernels, ConstPlace left, ConstPlace right,
                                   std::size_t length);

}  // namespace iospace::copy
