#include "shared_memory.h"

#include "arguments.h"
#include "error.h"
#include "syscall.h"

namespace iospace {
namespace {

Napi::Value ShmOpen(const Napi::CallbackInfo& info) {
  const std::string name = Text(info[0], "name");
  const int flags = Integer<int>(info[1], "flags");
  const auto mode = Integer<std::uint32_t>(info[2], "mode");
  FileDescriptor fd = Take(info.Env(), syscall::ShmOpen(name.c_str(), flags, mode), {.path = name});
  return Napi::Number::New(info.Env(), fd.Detach());
}

void ShmUnlink(const Napi::CallbackInfo& info) {
  const std::string name = Text(info[0], "name");
  Check(info.Env(), syscall::ShmUnlink(name.c_str()), {.path = name});
}

Napi::Value MemfdCreate(const Napi::CallbackInfo& info) {
  const std::string name = Text(info[0], "name");
  const auto flags = Integer<std::uint32_t>(info[1], "flags");
  FileDescriptor fd = Take(info.Env(), syscall::MemfdCreate(name.c_str(), flags), {.path = name});
  return Napi::Number::New(info.Env(), fd.Detach());
}

}  // namespace

void DefineSharedMemory(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("shmOpen", Napi::Function::New<ShmOpen>(env, "shmOpen"));
  exports.Set("shmUnlink", Napi::Function::New<ShmUnlink>(env, "shmUnlink"));
  exports.Set("memfdCreate", Napi::Function::New<MemfdCreate>(env, "memfdCreate"));
}

}  // namespace iospace
