#include "error.h"

#include "addon.h"

namespace iospace {
namespace {

/// Numbers and the like as they are, everything else by its type: no code of the user's runs.
std::string Describe(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
    case napi_number:
      return value.ToString();
    case napi_bigint:
      return value.ToString().Utf8Value() + "n";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_object:
    case napi_external:
      break;
  }
  return "an object";
}

using Create = napi_status (*)(napi_env, napi_value, napi_value, napi_value*);

Napi::Error Make(Napi::Env env, Create create, const char* code, const std::string& message) {
  napi_value error = nullptr;
  const napi_status status =
      create(env, Napi::String::New(env, code), Napi::String::New(env, message), &error);
  NAPI_THROW_IF_FAILED(env, status, Napi::Error());
  return {env, error};
}

std::string Explain(Napi::Value value, const char* name, const std::string& expected) {
  return "expected " + expected + " for " + name + ", got " + Describe(value);
}

}  // namespace

Napi::Error SystemError(Napi::Env env, const Failure& failure, const Detail& detail) {
  Napi::Object about = Napi::Object::New(env);
  if (detail.path) about["path"] = Napi::String::New(env, *detail.path);
  if (detail.address) about["address"] = Napi::BigInt::New(env, *detail.address);
  if (detail.request) about["request"] = Napi::Number::New(env, *detail.request);
  const Napi::FunctionReference& hook = Addon::Of(env).system_error;
  if (hook.IsEmpty()) return InvalidState(env, "initialize() has not been called");
  const Napi::Value error =
      hook.Call({Napi::Number::New(env, failure.error), Napi::String::New(env, failure.syscall), about});
  return {env, error};
}

Napi::Error InvalidType(Napi::Value value, const char* name, const std::string& expected) {
  return Make(value.Env(), napi_create_type_error, "ERR_INVALID_ARG_TYPE", Explain(value, name, expected));
}

Napi::Error OutOfRange(Napi::Value value, const char* name, const std::string& expected) {
  return Make(value.Env(), napi_create_range_error, "ERR_OUT_OF_RANGE", Explain(value, name, expected));
}

Napi::Error InvalidState(Napi::Env env, const char* message) {
  return Make(env, napi_create_error, "ERR_INVALID_STATE", message);
}

}  // namespace iospace
