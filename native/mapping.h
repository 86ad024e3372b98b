/// The JavaScript object over one mapping, its ArrayBuffers, shared or not, and the end of all.
///
/// The address range belongs to a Region that the object and the finalizers of its ArrayBuffers share: it
/// goes into quarantine when all are gone, however late an ArrayBuffer that was carried off by transfer() is
/// collected, or a SharedArrayBuffer, in the last of the threads that have it. release() empties the range
/// long before that. Where the environment ends first, nobody can say whether another thread has the
/// ArrayBuffer's memory: the range is emptied, and never used again. Of a SharedArrayBuffer Node itself keeps
/// count.
#pragma once

#include <napi.h>

#include <memory>

#include "syscall.h"

namespace iospace {

class Region;

class Mapping : public Napi::ObjectWrap<Mapping> {
 public:
  /// Exports mmap() and shmat(). The constructor is not exported, but can be reached by any object: it is
  /// both of them.
  static void Define(Napi::Object exports);

  /// mmap(fd, byteLength, protection, flags, offset), or, of two arguments, shmat(id, flags)
  explicit Mapping(const Napi::CallbackInfo& info);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() override;

 private:
  static Napi::Value IsReleased(const Napi::CallbackInfo& info);

  Napi::Value Buffer(const Napi::CallbackInfo& info);
  Napi::Value SharedBuffer(const Napi::CallbackInfo& info);
  void Renew(const Napi::CallbackInfo& info);
  void Release(const Napi::CallbackInfo& info);
  void Protect(const Napi::CallbackInfo& info);
  void Sync(const Napi::CallbackInfo& info);
  void Advise(const Napi::CallbackInfo& info);
  void Lock(const Napi::CallbackInfo& info);
  void Unlock(const Napi::CallbackInfo& info);

  /// The ArrayBuffer that buffer() gave, unless there is none, or it was collected or renewed.
  Napi::ArrayBuffer Existing() const;
  /// Throws if released.
  Region& Live() const;
  /// The bytes that the arguments `offset` and `byteLength` name.
  std::span<std::byte> Part(Napi::Value offset, Napi::Value length) const;

  /// Null once released.
  std::shared_ptr<Region> region_;
  /// Weak: whoever needs each of the two to keep the other says so in JavaScript, where the collector sees
  /// the circle. From here it would never be collected.
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace iospace
