/// The kernels of any processor: words.
#include "copy_kernels.h"

namespace iospace::copy {
namespace {

/// The widest that every processor loads and stores at once.
using Word = std::uintptr_t;

void Load(std::byte* to, const std::byte* from, std::size_t lines) {
  const auto* const words = reinterpret_cast<const volatile Word*>(from);
  for (std::size_t i = 0; i < lines * (kLine / sizeof(Word)); ++i) {
    const Word word = words[i];
    // Also where `to` is unaligned.
    __builtin_memcpy(to + i * sizeof word, &word, sizeof word);
  }
}

void Store(std::byte* to, const std::byte* from, std::size_t step, std::size_t lines) {
  auto* words = reinterpret_cast<volatile Word*>(to);
  for (; lines > 0; --lines, from += step) {
    for (std::size_t i = 0; i < kLine; i += sizeof(Word)) {
      Word word = 0;
      __builtin_memcpy(&word, from + i, sizeof word);
      *words++ = word;
    }
  }
}

}  // namespace

const Kernels kPortable = {"portable", Load, Store, nullptr};

#if !defined(__x86_64__) && !defined(__aarch64__)
std::span<const Kernels> OfProcessor() {
  return {};
}
#endif

}  // namespace iospace::copy
