/// The JavaScript object over locks of single bytes of a file, which the kernel ends with whoever holds them.
///
/// The locks belong to an open file description of their own: they end by unlock(), by close(), with the
/// environment, or with the process, and by nothing else. So whoever asks for a byte learns whether its
/// holder lives, in other pid namespaces too, and of worker threads that were terminated.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

class ByteLocks : public Napi::ObjectWrap<ByteLocks> {
 public:
  static void Define(Napi::Object exports);

  /// new ByteLocks(fd)
  explicit ByteLocks(const Napi::CallbackInfo& info);

 private:
  Napi::Value TryLock(const Napi::CallbackInfo& info);
  void Unlock(const Napi::CallbackInfo& info);
  Napi::Value IsHeld(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /// Throws if closed.
  int Live() const;

  FileDescriptor file_;
};

}  // namespace iospace
