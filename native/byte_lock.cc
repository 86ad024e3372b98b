#include "byte_lock.h"

#include "arguments.h"
#include "error.h"

namespace iospace {
namespace {

off_t Byte(Napi::Value value) {
  return static_cast<off_t>(Integer(value, "byte", 0, kMaxSafeInteger));
}

}  // namespace

void ByteLock::Define(Napi::Object exports) {
  exports.Set("ByteLock", DefineClass(exports.Env(), "ByteLock",
                                      {
                                          InstanceMethod<&ByteLock::IsHeld>("isHeld"),
                                          InstanceMethod<&ByteLock::Close>("close"),
                                      }));
}

ByteLock::ByteLock(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const int fd = Descriptor(info[0], "fd");
  const off_t byte = Byte(info[1]);
  FileDescriptor file = Take(info.Env(), syscall::Reopen(fd));
  Check(info.Env(), syscall::LockByte(file.get(), byte, false));
  file_ = std::move(file);
}

Napi::Value ByteLock::IsHeld(const Napi::CallbackInfo& info) {
  const off_t byte = Byte(info[0]);
  if (file_.get() < 0) throw InvalidState(info.Env(), "the lock is closed");
  return Napi::Boolean::New(info.Env(), Take(info.Env(), syscall::IsByteLocked(file_.get(), byte)));
}

void ByteLock::Close(const Napi::CallbackInfo&) {
  file_ = FileDescriptor();
}

}  // namespace iospace
