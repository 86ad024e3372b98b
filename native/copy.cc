#include "copy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "barrier.h"
#include "copy_kernels.h"

namespace iospace::copy {
namespace {

/// What passes from one memory to another at a time: stays in the first cache.
constexpr std::size_t kBounce = 4096;

/// How much cached memory is compared at a time: the first difference is then looked for in no more.
constexpr std::size_t kStretch = 32768;

std::size_t InLine(const std::byte* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kLine;
}

/// Bytes of the widest aligned access at `address` that stays within `length`.
std::size_t Width(const std::byte* address, std::size_t length) {
  const std::size_t alignment = reinterpret_cast<std::uintptr_t>(address) | sizeof(std::uintptr_t);
  return std::min(alignment & -alignment, std::bit_floor(length));
}

template <typename Word>
void LoadWord(std::byte* to, const std::byte* from) {
  const Word word = *reinterpret_cast<const volatile Word*>(from);
  std::memcpy(to, &word, sizeof word);
}

template <typename Word>
void StoreWord(std::byte* to, const std::byte* from) {
  Word word = 0;
  std::memcpy(&word, from, sizeof word);
  *reinterpret_cast<volatile Word*>(to) = word;
}

/// By aligned loads of at most a word, each byte once.
void LoadExactly(std::byte* to, const std::byte* from, std::size_t length) {
  while (length > 0) {
    const std::size_t width = Width(from, length);
    switch (width) {
      case 8:
        LoadWord<std::uint64_t>(to, from);
        break;
      case 4:
        LoadWord<std::uint32_t>(to, from);
        break;
      case 2:
        LoadWord<std::uint16_t>(to, from);
        break;
      default:
        LoadWord<std::uint8_t>(to, from);
    }
    to += width;
    from += width;
    length -= width;
  }
}

void StoreExactly(std::byte* to, const std::byte* from, std::size_t length) {
  while (length > 0) {
    const std::size_t width = Width(to, length);
    switch (width) {
      case 8:
        StoreWord<std::uint64_t>(to, from);
        break;
      case 4:
        StoreWord<std::uint32_t>(to, from);
        break;
      case 2:
        StoreWord<std::uint16_t>(to, from);
        break;
      default:
        StoreWord<std::uint8_t>(to, from);
    }
    to += width;
    from += width;
    length -= width;
  }
}

/// A part of a line that no cache holds: all of the line is read, which costs least and never leaves its
/// page.
void LoadPart(const Kernels& kernels, std::byte* to, const std::byte* from, std::size_t length) {
  alignas(kLine) std::array<std::byte, kLine> line;
  const std::size_t begin = InLine(from);
  kernels.load(line.data(), from - begin, 1);
  std::memcpy(to, line.data() + begin, length);
}

/// Into cached memory, from any other.
void Read(const Kernels& kernels, std::byte* to, ConstPlace from, std::size_t length) {
  const std::byte* at = from.address;
  if (from.kind == Kind::kDevice) {
    LoadExactly(to, at, length);
    return;
  }
  if (InLine(at) != 0) {
    const std::size_t part = std::min(length, kLine - InLine(at));
    LoadPart(kernels, to, at, part);
    to += part;
    at += part;
    length -= part;
  }
  const std::size_t rest = length % kLine;
  const std::size_t whole = length - rest;
  if (whole > 0) kernels.load(to, at, whole / kLine);
  if (rest > 0) LoadPart(kernels, to + whole, at + whole, rest);
}

/// From cached memory, into any other; with a `step` of 0 instead of kLine `from` is a line of one value.
void Write(const Kernels& kernels, Place to, const std::byte* from, std::size_t step, std::size_t length) {
  const Kernels& by = to.kind == Kind::kDevice ? kPortable : kernels;
  std::byte* at = to.address;
  const std::size_t lead = std::min(length, -InLine(at) % kLine);
  StoreExactly(at, from, lead);
  at += lead;
  if (step > 0) from += lead;
  length -= lead;
  const std::size_t rest = length % kLine;
  const std::size_t whole = length - rest;
  if (whole > 0) by.store(at, from, step, whole / kLine);
  StoreExactly(at + whole, step > 0 ? from + whole : from, rest);
}

bool Overlap(const std::byte* a, const std::byte* b, std::size_t length) {
  const auto first = reinterpret_cast<std::uintptr_t>(a);
  const auto second = reinterpret_cast<std::uintptr_t>(b);
  return first < second ? second - first < length : first - second < length;
}

void CopyCached(const Kernels& kernels, std::byte* to, const std::byte* from, std::size_t length) {
  if (length < kBulk || kernels.bulk == nullptr || Overlap(to, from, length)) {
    std::memmove(to, from, length);
  } else {
    kernels.bulk(to, from, length);
    barrier::BeforeDeviceWrite();
  }
}

/// Before memory that is not cached is read. What says that the bytes are there was read before: loads may
/// overtake it. And x86 serves streaming loads from buffers that the writes of others do not reach; the fence
/// empties them, so that a line of which a part was copied before is fetched anew.
void BeforeRead(Kind from) {
  if (from != Kind::kCached) barrier::Full();
}

/// How much of `length` bytes from `address` on to take next, so that all but the last part ends with a line.
std::size_t NextPart(const std::byte* address, std::size_t length) {
  return std::min(length, kBounce - InLine(address));
}

/// The same from the end: all but the last part, which is the first in memory, begins with a line.
std::size_t LastPart(const std::byte* address, std::size_t length) {
  const std::size_t beyond = InLine(address + length);
  return std::min(length, kBounce - kLine + (beyond == 0 ? kLine : beyond));
}

/// Reads ends of lines and writes ends of lines, however the two lie to each other: what was read of a line
/// that cannot be written whole yet is kept for the next part.
void CopyForwards(const Kernels& kernels, Place to, ConstPlace from, std::size_t length) {
  alignas(kLine) std::array<std::byte, kBounce + kLine> bounce;
  std::size_t held = 0;
  while (length > 0) {
    const std::size_t part = NextPart(from.address, length);
    Read(kernels, bounce.data() + held, from, part);
    held += part;
    from.address += part;
    length -= part;
    const std::size_t kept = length == 0 ? 0 : std::min(held, InLine(to.address + held));
    const std::size_t ready = held - kept;
    Write(kernels, to, bounce.data(), kLine, ready);
    to.address += ready;
    std::memmove(bounce.data(), bounce.data() + ready, kept);
    held = kept;
  }
}

/// For memory that overlaps what is after it.
void CopyBackwards(const Kernels& kernels, Place to, ConstPlace from, std::size_t length) {
  alignas(kLine) std::array<std::byte, kBounce> bounce;
  while (length > 0) {
    const std::size_t part = LastPart(from.address, length);
    length -= part;
    Read(kernels, bounce.data(), {from.address + length, from.kind}, part);
    Write(kernels, {to.address + length, to.kind}, bounce.data(), kLine, part);
  }
}

/// The first of so many bytes, some of which differ, that does.
std::size_t Difference(const std::byte* left, const std::byte* right, std::size_t length) {
  return static_cast<std::size_t>(std::mismatch(left, left + length, right).first - left);
}

/// Where the bytes can be compared: in place, or after a copy to `bounce`.
const std::byte* Comparable(const Kernels& kernels, ConstPlace place, std::byte* bounce, std::size_t length) {
  if (place.kind == Kind::kCached) return place.address;
  Read(kernels, bounce, place, length);
  return bounce;
}

}  // namespace

std::span<const Kernels> All() {
  static const std::vector<Kernels> all = [] {
    const std::span<const Kernels> own = OfProcessor();
    std::vector<Kernels> kernels(own.begin(), own.end());
    kernels.push_back(kPortable);
    return kernels;
  }();
  return all;
}

void Copy(const Kernels& kernels, Place to, ConstPlace from, std::size_t length) {
  if (to.kind == Kind::kCached && from.kind == Kind::kCached) {
    CopyCached(kernels, to.address, from.address, length);
    return;
  }
  BeforeRead(from.kind);
  const bool overlap = Overlap(to.address, from.address, length);
  if (overlap && to.address > from.address) {
    CopyBackwards(kernels, to, from, length);
  } else if (overlap || (to.kind != Kind::kCached && from.kind != Kind::kCached)) {
    CopyForwards(kernels, to, from, length);
  } else if (to.kind == Kind::kCached) {
    Read(kernels, to.address, from, length);
  } else {
    Write(kernels, to, from.address, kLine, length);
  }
  barrier::BeforeDeviceWrite();
}

void Fill(const Kernels& kernels, Place to, std::byte value, std::size_t length) {
  if (to.kind == Kind::kCached) {
    std::memset(to.address, static_cast<int>(value), length);
    return;
  }
  alignas(kLine) std::array<std::byte, kLine> line;
  line.fill(value);
  Write(kernels, to, line.data(), 0, length);
  barrier::BeforeDeviceWrite();
}

std::optional<std::size_t> Compare(const Kernels& kernels, ConstPlace left, ConstPlace right,
                                   std::size_t length) {
  alignas(kLine) std::array<std::byte, kBounce> ours;
  alignas(kLine) std::array<std::byte, kBounce> theirs;
  const bool cached = left.kind == Kind::kCached && right.kind == Kind::kCached;
  // The lines that parts begin with are those of memory that is costly to read.
  const bool by_right = left.kind == Kind::kCached;
  BeforeRead(by_right ? right.kind : left.kind);
  for (std::size_t done = 0; done < length;) {
    const std::byte* const paced = (by_right ? right.address : left.address) + done;
    const std::size_t part = cached ? std::min(length - done, kStretch) : NextPart(paced, length - done);
    const std::byte* const a = Comparable(kernels, {left.address + done, left.kind}, ours.data(), part);
    const std::byte* const b = Comparable(kernels, {right.address + done, right.kind}, theirs.data(), part);
    if (std::memcmp(a, b, part) != 0) return done + Difference(a, b, part);
    done += part;
  }
  return std::nullopt;
}

}  // namespace iospace::copy
