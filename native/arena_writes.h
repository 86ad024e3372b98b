/// Writes to the memory that an arena's processes share. Each is a place at which a process may die, and at
/// which the tests stop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#ifdef IOSPACE_ARENA_BEFORE_WRITE
/// The tests', which stop before any write.
void IOSPACE_ARENA_BEFORE_WRITE();
#else
#define IOSPACE_ARENA_BEFORE_WRITE() static_cast<void>(0)
#endif

namespace iospace::arena {

/// Writes the truth: neither the compiler nor a 32-bit machine may split the write or move it past another.
template <typename T>
void Write(T& where, T value) {
  IOSPACE_ARENA_BEFORE_WRITE();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::atomic_ref<T>(where).store(value, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// Writes what is derived, in any order.
template <typename T>
void Note(T& where, T value) {
  IOSPACE_ARENA_BEFORE_WRITE();
  where = value;
}

/// FNV-1a, of what never changes.
inline std::uint64_t Checksum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0xcbf2'9ce4'8422'2325;
  for (const std::byte byte : bytes) sum = (sum ^ std::to_integer<std::uint64_t>(byte)) * 0x100'0000'01b3;
  return sum;
}

}  // namespace iospace::arena
