#include "file_lock.h"

#include <cerrno>

#include "arguments.h"
#include "error.h"

namespace iospace {

void FileLock::Define(Napi::Object exports) {
  exports.Set("FileLock", DefineClass(exports.Env(), "FileLock",
                                      {
                                          InstanceMethod<&FileLock::TryLock>("tryLock"),
                                          InstanceMethod<&FileLock::Unlock>("unlock"),
                                          InstanceMethod<&FileLock::Close>("close"),
                                      }));
}

FileLock::FileLock(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const int fd = Descriptor(info[0], "fd");
  byte_ = static_cast<off_t>(Integer(info[1], "byte", 0, kMaxSafeInteger));
  file_ = Take(info.Env(), syscall::Reopen(fd));
}

Napi::Value FileLock::TryLock(const Napi::CallbackInfo& info) {
  const Status failure = syscall::LockByte(Live(), byte_, false);
  const bool is_taken = failure && (failure->error == EAGAIN || failure->error == EACCES);
  if (!is_taken) Check(info.Env(), failure);
  return Napi::Boolean::New(info.Env(), !is_taken);
}

void FileLock::Unlock(const Napi::CallbackInfo& info) {
  Check(info.Env(), syscall::UnlockByte(Live(), byte_));
}

void FileLock::Close(const Napi::CallbackInfo&) {
  file_ = FileDescriptor();
}

int FileLock::Live() const {
  if (file_.get() < 0) throw InvalidState(Env(), "the lock is closed");
  return file_.get();
}

}  // namespace iospace
