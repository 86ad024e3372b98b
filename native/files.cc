#include "files.h"

#include <linux/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "syscall.h"

namespace iospace {
namespace {

/// A worker that is being terminated can end only between native calls.
constexpr int kLongestWait = 100;

/// Descriptors of one poll(); more than any open-file limit in use makes of sense.
constexpr std::size_t kMostPolled = 65536;

void Close(const Napi::CallbackInfo& info) {
  Check(info.Env(), syscall::Close(Descriptor(info[0], "fd")));
}

void LinkFile(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  const std::string path = Text(info[1], "path");
  Check(info.Env(), syscall::LinkFile(fd, path.c_str()), {.path = path});
}

/// The argument of an ioctl: an integer, or the memory of a view.
void* Argument(Napi::Value value, std::uint32_t request) {
  if (value.IsNumber()) {
    // Wider integers could pass for pointers.
    const std::int64_t number = Integer(value, "argument", INT32_MIN, UINT32_MAX);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): ioctl() takes both in one place.
    return reinterpret_cast<void*>(static_cast<std::intptr_t>(number));
  }
  const std::span<std::byte> bytes = Bytes(value, "argument");
  // What the number says of the structure's size. Older numbers say nothing; those are the caller's care.
  const std::size_t needed = std::max<std::size_t>(1, _IOC_SIZE(request));
  if (bytes.size() < needed)
    throw OutOfRange(Napi::Number::New(value.Env(), static_cast<double>(bytes.size())), "argument.byteLength",
                     "at least " + std::to_string(needed));
  return bytes.data();
}

Napi::Value Ioctl(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  const auto request = Integer<std::uint32_t>(info[1], "request");
  void* const argument = Argument(info[2], request);
  const int returned = Take(info.Env(), syscall::Ioctl(fd, request, argument), {.request = request});
  return Napi::Number::New(info.Env(), returned);
}

Napi::Value Poll(const Napi::CallbackInfo& info) {
  const auto fds = Elements<std::int32_t>(info[0], "fds");
  const auto events = Elements<std::int16_t>(info[1], "events");
  const auto revents = Elements<std::int16_t>(info[2], "revents");
  const auto timeout = Integer<std::int32_t>(info[3], "timeout");
  if (fds.size() > kMostPolled)
    throw OutOfRange(info[0], "fds", "at most " + std::to_string(kMostPolled) + " elements");
  if (events.size() != fds.size()) throw OutOfRange(info[1], "events", "as many elements as fds");
  if (revents.size() != fds.size()) throw OutOfRange(info[2], "revents", "as many elements as fds");

  std::vector<pollfd> descriptors(fds.size());
  for (std::size_t i = 0; i < fds.size(); ++i) descriptors[i] = {fds[i], events[i], 0};
  // A negative timeout means as long as possible, as in the C library.
  const int wait = timeout < 0 ? kLongestWait : std::min(timeout, kLongestWait);
  const Result<int> ready = syscall::Poll(descriptors, wait);
  // A signal ends the wait early, as its time does: the caller's loop waits again.
  const auto* const failure = std::get_if<Failure>(&ready);
  const bool interrupted = failure != nullptr && failure->error == EINTR;
  const int count = interrupted ? 0 : Take(info.Env(), ready);
  for (std::size_t i = 0; i < fds.size(); ++i) revents[i] = descriptors[i].revents;
  return Napi::Number::New(info.Env(), count);
}

void Ftruncate(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  const std::int64_t length = Integer(info[1], "byteLength", 0, kMaxSafeInteger);
  Check(info.Env(), syscall::Truncate(fd, length));
}

void Fallocate(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  const std::int64_t offset = Integer(info[1], "offset", 0, kMaxSafeInteger);
  const std::int64_t length = Integer(info[2], "byteLength", 1, kMaxSafeInteger);
  Check(info.Env(), syscall::Allocate(fd, offset, length));
}

}  // namespace

FileDescriptor OpenFile(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path");
  const int flags = Integer<int>(info[1], "flags");
  const auto mode = Integer<std::uint32_t>(info[2], "mode");
  return Take(info.Env(), syscall::Open(path.c_str(), flags, mode), {.path = path});
}

FileDescriptor DuplicateFile(const Napi::CallbackInfo& info) {
  return Take(info.Env(), syscall::Duplicate(Descriptor(info[0], "fd")));
}

FileDescriptor CreateEventfd(const Napi::CallbackInfo& info) {
  const auto initial = Integer<std::uint32_t>(info[0], "initial");
  const int flags = Integer<int>(info[1], "flags");
  return Take(info.Env(), syscall::Eventfd(initial, flags));
}

void DefineFiles(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("open", Napi::Function::New<Opened<OpenFile>>(env, "open"));
  exports.Set("close", Napi::Function::New<Close>(env, "close"));
  exports.Set("linkFile", Napi::Function::New<LinkFile>(env, "linkFile"));
  exports.Set("ioctl", Napi::Function::New<Ioctl>(env, "ioctl"));
  exports.Set("poll", Napi::Function::New<Poll>(env, "poll"));
  exports.Set("ftruncate", Napi::Function::New<Ftruncate>(env, "ftruncate"));
  exports.Set("fallocate", Napi::Function::New<Fallocate>(env, "fallocate"));
  exports.Set("eventfd", Napi::Function::New<Opened<CreateEventfd>>(env, "eventfd"));
}

}  // namespace iospace
