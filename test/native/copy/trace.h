/// Watches what a call reads and writes, access by access: the memory is kept from the process, each access
/// faults, is written down by the instruction that made it, and is made again alone.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

/// One access of a load or store: as many bytes as its instruction has, both registers of a pair together.
struct Access {
  const std::byte* address;
  std::size_t width;
  bool store;
  /// Whether a full fence came before the first access of the call. Known only if it was looked for.
  bool fenced;
};

/// Whether this architecture's instructions are known here.
bool CanTrace();

/// Whether fences can be looked for.
bool CanSeeFences();

/// What the call does with the ranges, whole pages, in order.
/// To look for fences takes a step for each instruction until the first access.
std::vector<Access> Trace(std::span<const std::span<std::byte>> ranges, const std::function<void()>& call,
                          bool look_for_fences = false);
