#include "byte_locks.h"

#include <cerrno>

#include "arguments.h"
#include "error.h"

namespace iospace {
namespace {

off_t Byte(Napi::Value value) {
  return static_cast<off_t>(Integer(value, "byte", 0, kMaxSafeInteger));
}

}  // namespace

void ByteLocks::Define(Napi::Object exports) {
  exports.Set("ByteLocks", DefineClass(exports.Env(), "ByteLocks",
                                       {
                                           InstanceMethod<&ByteLocks::TryLock>("tryLock"),
                                           InstanceMethod<&ByteLocks::Unlock>("unlock"),
                                           InstanceMethod<&ByteLocks::IsHeld>("isHeld"),
                                           InstanceMethod<&ByteLocks::Close>("close"),
                                       }));
}

ByteLocks::ByteLocks(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  file_ = Take(info.Env(), syscall::Reopen(Descriptor(info[0], "fd")));
}

Napi::Value ByteLocks::TryLock(const Napi::CallbackInfo& info) {
  const Status failure = syscall::LockByte(Live(), Byte(info[0]), false);
  const bool is_taken = failure && (failure->error == EAGAIN || failure->error == EACCES);
  if (!is_taken) Check(info.Env(), failure);
  return Napi::Boolean::New(info.Env(), !is_taken);
}

void ByteLocks::Unlock(const Napi::CallbackInfo& info) {
  Check(info.Env(), syscall::UnlockByte(Live(), Byte(info[0])));
}

Napi::Value ByteLocks::IsHeld(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), Take(info.Env(), syscall::IsByteLocked(Live(), Byte(info[0]))));
}

void ByteLocks::Close(const Napi::CallbackInfo&) {
  file_ = FileDescriptor();
}

int ByteLocks::Live() const {
  if (file_.get() < 0) throw InvalidState(Env(), "the locks are closed");
  return file_.get();
}

}  // namespace iospace
