/// Errors as JavaScript sees them: system errors, made by the hook that TypeScript gave, and errors about
/// arguments, of the classes and codes that Node itself uses.
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>

#include "syscall.h"

namespace iospace {

/// What a system error is about, beside its number and call.
struct Detail {
  std::optional<std::string> path = {};
  std::optional<std::uint64_t> address = {};
  std::optional<std::uint32_t> request = {};
};

Napi::Error SystemError(Napi::Env env, const Failure& failure, const Detail& detail = {});

/// "expected EXPECTED for NAME, got VALUE": ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE.
Napi::Error InvalidType(Napi::Value value, const char* name, const std::string& expected);
Napi::Error OutOfRange(Napi::Value value, const char* name, const std::string& expected);

/// ERR_INVALID_STATE: a method of something that has ended.
Napi::Error InvalidState(Napi::Env env, const char* message);

/// The value, or the system error as a JavaScript exception.
template <typename T>
T Take(Napi::Env env, Result<T> result, const Detail& detail = {}) {
  if (const auto* failure = std::get_if<Failure>(&result)) throw SystemError(env, *failure, detail);
  return std::get<T>(std::move(result));
}

inline void Check(Napi::Env env, const Status& status, const Detail& detail = {}) {
  if (status) throw SystemError(env, *status, detail);
}

}  // namespace iospace
