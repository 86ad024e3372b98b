#include "shared_memory.h"

#include "arguments.h"
#include "error.h"
#include "files.h"
#include "last_names.h"
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

void AddLastName(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path");
  Check(info.Env(), last_names::Add(path, Descriptor(info[1], "fd")), {.path = path});
}

void ForgetLastName(const Napi::CallbackInfo& info) {
  last_names::Forget(Text(info[0], "path"));
}

void RemoveLastNames(const Napi::CallbackInfo&) {
  last_names::Remove();
}

void GuardLastNames(const Napi::CallbackInfo& info) {
  Check(info.Env(), last_names::Guard(Integer<int>(info[0], "signal")));
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
  exports.Set("addLastName", Napi::Function::New<AddLastName>(env, "addLastName"));
  exports.Set("forgetLastName", Napi::Function::New<ForgetLastName>(env, "forgetLastName"));
  exports.Set("removeLastNames", Napi::Function::New<RemoveLastNames>(env, "removeLastNames"));
  exports.Set("guardLastNames", Napi::Function::New<GuardLastNames>(env, "guardLastNames"));
}

}  // namespace iospace
