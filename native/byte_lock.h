/// The JavaScript object over a lock of one byte of a file, which the kernel ends with whoever holds it.
///
/// The lock belongs to an open file description of its own: it ends by close(), or with the environment,
/// or with the process, whichever comes first, and by nothing else. So whoever asks for the byte learns
/// whether its holder lives, in other pid namespaces too, and of worker threads that were terminated.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

class ByteLock : public Napi::ObjectWrap<ByteLock> {
 public:
  static void Define(Napi::Object exports);

  /// new ByteLock(fd, byte)
  explicit ByteLock(const Napi::CallbackInfo& info);

 private:
  Napi::Value IsHeld(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor file_;
};

}  // namespace iospace
