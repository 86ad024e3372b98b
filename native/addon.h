/// The state of the addon in one Node environment (the main thread, or one worker).
#pragma once

#include <napi.h>

namespace iospace {

struct Addon {
  static Addon& Of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

  /// The hooks of `initialize()`; empty before.
  Napi::FunctionReference system_error;
  Napi::FunctionReference leaked;

  Napi::FunctionReference mapping;
};

/// Whether the environment has begun to end: from there on nothing can call JavaScript.
bool IsEnding(napi_env env) noexcept;

/// Calls `function` from the event loop, where no JavaScript is running: microtasks and ticks run after it,
/// and what it throws is an uncaught exception. `context` may be null.
void CallFromLoop(napi_env env, napi_async_context context, napi_value function,
                  std::initializer_list<napi_value> arguments) noexcept;

}  // namespace iospace
