/// The JavaScript object over a lock of one byte of a file, taken and given back many times.
///
/// The lock belongs to an open file description of its own. The kernel ends it by unlock(), by close(), at
/// the end of the environment and with the process: whoever takes it next has it alone, in whatever pid
/// namespace.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

class FileLock : public Napi::ObjectWrap<FileLock> {
 public:
  static void Define(Napi::Object exports);

  /// new FileLock(fd, byte)
  explicit FileLock(const Napi::CallbackInfo& info);

 private:
  Napi::Value TryLock(const Napi::CallbackInfo& info);
  void Unlock(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /// Throws if closed.
  int Live() const;

  FileDescriptor file_;
  off_t byte_ = 0;
};

}  // namespace iospace
