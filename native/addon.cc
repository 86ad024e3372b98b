/// Exports everything that lib/binding.ts declares, and owns the state of the environment.
#include "addon.h"

#include "arena.h"
#include "arguments.h"
#include "barrier.h"
#include "byte_locks.h"
#include "cache_functions.h"
#include "constants.h"
#include "device.h"
#include "error.h"
#include "files.h"
#include "futex.h"
#include "mapping.h"
#include "owned_file.h"
#include "poller.h"
#include "registers.h"
#include "shared_memory.h"
#include "sockets.h"
#include "syscall.h"
#include "system_v.h"

namespace iospace {

bool IsEnding(napi_env env) noexcept {
  // Asked by a call that would run JavaScript. A cleanup hook comes too late: Node 22 and newer finalize
  // ArrayBuffers before they run the first.
  napi_value global = nullptr;
  bool found = false;
  return napi_get_global(env, &global) != napi_ok ||
         napi_has_named_property(env, global, "Object", &found) != napi_ok;
}

void CallFromLoop(napi_env env, napi_async_context context, napi_value function,
                  std::initializer_list<napi_value> arguments) noexcept {
  napi_value receiver = nullptr;
  if (napi_get_global(env, &receiver) != napi_ok) return;
  const napi_status status =
      napi_make_callback(env, context, receiver, function, arguments.size(), std::data(arguments), nullptr);
  if (status != napi_pending_exception) return;
  // Nothing is pending where the call was refused because the environment is being terminated.
  bool pending = false;
  napi_value exception = nullptr;
  if (napi_is_exception_pending(env, &pending) != napi_ok || !pending) return;
  if (napi_get_and_clear_last_exception(env, &exception) != napi_ok) return;
  napi_fatal_exception(env, exception);
}

namespace {

Napi::FunctionReference Hook(const Napi::Object& hooks, const char* name) {
  const Napi::Value hook = hooks.Get(name);
  if (!hook.IsFunction()) throw InvalidType(hook, name, "a function");
  return Napi::Persistent(hook.As<Napi::Function>());
}

void Initialize(const Napi::CallbackInfo& info) {
  if (!info[0].IsObject()) throw InvalidType(info[0], "hooks", "an object");
  const auto hooks = info[0].As<Napi::Object>();
  Napi::FunctionReference system_error = Hook(hooks, "systemError");
  Napi::FunctionReference leaked = Hook(hooks, "leaked");
  Addon& addon = Addon::Of(info.Env());
  addon.system_error = std::move(system_error);
  addon.leaked = std::move(leaked);
}

void Barrier(const Napi::CallbackInfo&) {
  barrier::Full();
}

Napi::Object Load(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Addon);

  exports.Set("initialize", Napi::Function::New<Initialize>(env, "initialize"));
  exports.Set("barrier", Napi::Function::New<Barrier>(env, "barrier"));
  exports.Set("pageSize", Napi::Number::New(env, static_cast<double>(syscall::PageSize())));
  exports.Set("constants", Constants(env));
  DefineFiles(exports);
  DefineSharedMemory(exports);
  DefineSystemV(exports);
  OwnedFile::Define(exports);
  DefineDevice(exports);
  DefineArena(exports);
  DefineCache(exports);
  Mapping::Define(exports);
  Registers::Define(exports);
  Poller::Define(exports);
  ByteLocks::Define(exports);
  FutexWaits::Define(exports);
  DescriptorReceiver::Define(exports);
  DescriptorSender::Define(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(iospace, Load)

}  // namespace iospace
