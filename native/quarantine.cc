#include "quarantine.h"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <mutex>

namespace iospace::quarantine {
namespace {

/// Address space is plentiful on 64-bit machines only (at the least 256 GiB: arm64 with 39 bits).
constexpr std::uint64_t kMostBytes = sizeof(void*) == 8 ? std::uint64_t{1} << 34 : 0;
constexpr std::size_t kMostRanges = 1024;

/// First in, first out. A fixed array, because taking a range in must not fail.
class Queue {
 public:
  void Put(Range range) noexcept {
    const std::lock_guard lock(mutex_);
    bytes_ += range.size();
    ranges_[(first_ + count_++) % kMostRanges] = range.Detach();
    while (count_ == kMostRanges || bytes_ > kMostBytes) GiveBackOldest();
  }

  void GiveBackAll() noexcept {
    const std::lock_guard lock(mutex_);
    while (count_ > 0) GiveBackOldest();
  }

 private:
  void GiveBackOldest() noexcept {
    const Range oldest(ranges_[first_]);
    bytes_ -= oldest.size();
    first_ = (first_ + 1) % kMostRanges;
    --count_;
  }

  std::mutex mutex_;
  std::array<std::span<std::byte>, kMostRanges> ranges_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

// Process-wide. Never destroyed: workers may outlive static destructors.
static_assert(std::is_trivially_destructible_v<Queue>);
constinit Queue queue;

/// Calls again without the ranges kept here, where there was no room.
template <typename Call>
auto WithRoom(Call call) {
  auto result = call();
  const auto* const failure = std::get_if<Failure>(&result);
  if (failure == nullptr || failure->error != ENOMEM) return result;
  queue.GiveBackAll();
  return call();
}

}  // namespace

void Put(Range range) noexcept {
  // Where the kernel cannot do even this (it has no room for another mapping), the range goes at once.
  if (!syscall::Replace(range, PROT_NONE)) queue.Put(std::move(range));
}

Result<Range> Map(int fd, std::size_t length, int protection, int flags, off_t offset) {
  return WithRoom([=] { return syscall::Map(fd, length, protection, flags, offset); });
}

Result<Attachment> AttachSegment(int id, int flags) {
  return WithRoom([=] { return syscall::AttachSegment(id, flags); });
}

}  // namespace iospace::quarantine
