#include "shared_memory.h"

#include "arguments.h"
#include "error.h"
#include "exit_names.h"
#include "files.h"
#include "syscall.h"

namespace iospace {
namespace {

void ShmUnlink(const Napi::CallbackInfo& info) {
  const std::string name = Text(info[0], "name");
  Check(info.Env(), syscall::ShmUnlink(name.c_str()), {.path = name});
}

void Seal(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  Check(info.Env(), syscall::Seal(fd, Integer<int>(info[1], "seals")));
}

Napi::Value Seals(const Napi::CallbackInfo& info) {
  const int seals = Take(info.Env(), syscall::Seals(Descriptor(info[0], "fd")));
  return Napi::Number::New(info.Env(), seals);
}

Napi::Value IsSoleOpener(const Napi::CallbackInfo& info) {
  const bool is_sole = Take(info.Env(), syscall::IsSoleOpener(Descriptor(info[0], "fd")));
  return Napi::Boolean::New(info.Env(), is_sole);
}

void AddExitName(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path");
  Check(info.Env(), exit_names::Add(path, Descriptor(info[1], "fd")), {.path = path});
}

void ForgetExitName(const Napi::CallbackInfo& info) {
  exit_names::Forget(Text(info[0], "path"));
}

void RemoveExitNames(const Napi::CallbackInfo&) {
  exit_names::Remove();
}

void GuardExitNames(const Napi::CallbackInfo& info) {
  Check(info.Env(), exit_names::Guard(Integer<int>(info[0], "signal")));
}

}  // namespace

FileDescriptor OpenObject(const Napi::CallbackInfo& info) {
  const std::string name = Text(info[0], "name");
  const int flags = Integer<int>(info[1], "flags");
  const auto mode = Integer<std::uint32_t>(info[2], "mode");
  return Take(info.Env(), syscall::ShmOpen(name.c_str(), flags, mode), {.path = name});
}

FileDescriptor CreateMemfd(const Napi::CallbackInfo& info) {
  const std::string name = Text(info[0], "name");
  const auto flags = Integer<std::uint32_t>(info[1], "flags");
  return Take(info.Env(), syscall::MemfdCreate(name.c_str(), flags), {.path = name});
}

void DefineSharedMemory(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("shmOpen", Napi::Function::New<Opened<OpenObject>>(env, "shmOpen"));
  exports.Set("shmUnlink", Napi::Function::New<ShmUnlink>(env, "shmUnlink"));
  exports.Set("memfdCreate", Napi::Function::New<Opened<CreateMemfd>>(env, "memfdCreate"));
  exports.Set("seal", Napi::Function::New<Seal>(env, "seal"));
  exports.Set("seals", Napi::Function::New<Seals>(env, "seals"));
  exports.Set("isSoleOpener", Napi::Function::New<IsSoleOpener>(env, "isSoleOpener"));
  exports.Set("addExitName", Napi::Function::New<AddExitName>(env, "addExitName"));
  exports.Set("forgetExitName", Napi::Function::New<ForgetExitName>(env, "forgetExitName"));
  exports.Set("removeExitNames", Napi::Function::New<RemoveExitNames>(env, "removeExitNames"));
  exports.Set("guardExitNames", Napi::Function::New<GuardExitNames>(env, "guardExitNames"));
}

}  // namespace iospace
