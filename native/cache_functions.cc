#include "cache_functions.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "arguments.h"
#include "cache.h"
#include "copy.h"

namespace iospace {
namespace {

/// The memory of a view or ArrayBuffer; empty for anything else, and for what is detached.
std::span<std::byte> MemoryOf(napi_env env, napi_value value) {
  auto type = static_cast<napi_typedarray_type>(-1);
  std::size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok)
    return {static_cast<std::byte*>(data), length * ElementSize(type)};
  if (napi_get_dataview_info(env, value, &length, &data, nullptr, nullptr) == napi_ok)
    return {static_cast<std::byte*>(data), length};
  if (napi_get_arraybuffer_info(env, value, &data, &length) == napi_ok)
    return {static_cast<std::byte*>(data), length};
  return {};
}

/// More than any memory has.
constexpr std::size_t kMostBytes =
    static_cast<std::size_t>(std::min<std::uint64_t>(SIZE_MAX, kMaxSafeInteger));

/// An integer from 0 to `most`, which a number has exactly.
bool Get(napi_env env, napi_value value, std::size_t most, std::size_t& number) {
  double real = 0;
  // Written so that NaN fails too.
  if (napi_get_value_double(env, value, &real) != napi_ok ||
      !(real >= 0 && real <= static_cast<double>(most)) || real != std::trunc(real))
    return false;
  number = static_cast<std::size_t>(real);
  return true;
}

/// Reads the arguments of a call, as many as there are.
template <std::size_t most>
struct Arguments {
  Arguments(napi_env env, napi_callback_info info) {
    if (napi_get_cb_info(env, info, &count, values.data(), nullptr, nullptr) != napi_ok) count = 0;
  }

  std::array<napi_value, most> values = {};
  std::size_t count = most;
};

napi_value Boolean(napi_env env, bool value) {
  napi_value boolean = nullptr;
  napi_get_boolean(env, value, &boolean);
  return boolean;
}

/// What is not done is told by `false`: JavaScript then finds out why, or does it in another way.
napi_value Refused(napi_env env) {
  return Boolean(env, false);
}

/// What a call that gives nothing back gives.
napi_value Done() {
  return nullptr;
}

/// (memory[, offset[, length]])
template <cache::Operation operation>
napi_value Maintain(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  const std::span<std::byte> memory = MemoryOf(env, arguments.values[0]);
  if (memory.empty()) return Refused(env);
  std::size_t offset = 0;
  if (arguments.count > 1 && !Get(env, arguments.values[1], memory.size(), offset)) return Refused(env);
  std::size_t length = memory.size() - offset;
  if (arguments.count > 2 && !Get(env, arguments.values[2], length, length)) return Refused(env);
  return cache::Maintain(operation, memory.subspan(offset, length)) ? Done() : Refused(env);
}

/// Reads `memory, offset, kind`, which are to have `length` bytes.
bool Get(napi_env env, const napi_value* values, std::size_t length, copy::Place& place) {
  const std::span<std::byte> memory = MemoryOf(env, values[0]);
  std::size_t offset = 0;
  std::size_t kind = 0;
  if (length > memory.size() || !Get(env, values[1], memory.size() - length, offset) ||
      !Get(env, values[2], static_cast<std::size_t>(copy::Kind::kDevice), kind))
    return false;
  place = {memory.data() + offset, static_cast<copy::Kind>(kind)};
  return true;
}

/// The kernels of this number.
const copy::Kernels* KernelsOf(napi_env env, napi_value value) {
  const std::span<const copy::Kernels> all = copy::All();
  std::size_t number = 0;
  return Get(env, value, all.size() - 1, number) ? &all[number] : nullptr;
}

/// What there is of two memories of one length.
struct Pair {
  copy::Place first = {};
  copy::Place second = {};
  std::size_t length = 0;
  const copy::Kernels* kernels = nullptr;
};

/// Reads `memory, offset, kind, memory, offset, kind, length, kernels`.
bool Get(napi_env env, const napi_value* values, Pair& pair) {
  pair.kernels = KernelsOf(env, values[7]);
  return pair.kernels != nullptr && Get(env, values[6], kMostBytes, pair.length) &&
         Get(env, values, pair.length, pair.first) && Get(env, values + 3, pair.length, pair.second);
}

/// (target, offset, kind, source, offset, kind, length, kernels)
napi_value CopyBytes(napi_env env, napi_callback_info info) {
  const Arguments<8> arguments(env, info);
  Pair pair;
  if (!Get(env, arguments.values.data(), pair)) return Refused(env);
  const auto& [to, from, length, kernels] = pair;
  copy::Copy(*kernels, to, {from.address, from.kind}, length);
  return Done();
}

/// (target, offset, kind, value, length, kernels)
napi_value FillBytes(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  const napi_value* const values = arguments.values.data();
  std::size_t value = 0;
  std::size_t length = 0;
  copy::Place to = {};
  const copy::Kernels* const kernels = KernelsOf(env, values[5]);
  if (kernels == nullptr || !Get(env, values[3], UINT8_MAX, value) ||
      !Get(env, values[4], kMostBytes, length) || !Get(env, values, length, to))
    return Refused(env);
  copy::Fill(*kernels, to, static_cast<std::byte>(value), length);
  return Done();
}

/// (left, offset, kind, right, offset, kind, length, kernels); the first byte that differs, or -1
napi_value CompareBytes(napi_env env, napi_callback_info info) {
  const Arguments<8> arguments(env, info);
  Pair pair;
  if (!Get(env, arguments.values.data(), pair)) return Refused(env);
  const auto& [left, right, length, kernels] = pair;
  const auto found = copy::Compare(*kernels, {left.address, left.kind}, {right.address, right.kind}, length);
  napi_value index = nullptr;
  napi_create_double(env, found ? static_cast<double>(*found) : -1, &index);
  return index;
}

/// (ArrayBuffer)
napi_value IsDetached(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  bool detached = false;
  return Boolean(env,
                 napi_is_detached_arraybuffer(env, arguments.values[0], &detached) == napi_ok && detached);
}

Napi::Value TextOrUndefined(Napi::Env env, const char* text) {
  return text == nullptr ? env.Undefined() : Napi::String::New(env, text);
}

Napi::Value CacheInstructions(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const cache::Instructions& instructions = cache::OfProcessor();
  Napi::Object found = Napi::Object::New(env);
  found["clean"] = TextOrUndefined(env, instructions.clean);
  found["invalidate"] = TextOrUndefined(env, instructions.invalidate);
  found["flush"] = TextOrUndefined(env, instructions.flush);
  found["lineSize"] = Napi::Number::New(env, static_cast<double>(instructions.line));
  const std::span<const copy::Kernels> all = copy::All();
  Napi::Array copies = Napi::Array::New(env, all.size());
  for (std::uint32_t i = 0; i < all.size(); ++i) copies[i] = Napi::String::New(env, all[i].name);
  found["copies"] = copies;
  return found;
}

void Set(Napi::Object exports, const char* name, napi_callback call) {
  napi_value function = nullptr;
  NAPI_THROW_IF_FAILED_VOID(
      exports.Env(), napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, call, nullptr, &function));
  exports.Set(name, function);
}

}  // namespace

void DefineCache(Napi::Object exports) {
  exports.Set("cacheInstructions",
              Napi::Function::New<CacheInstructions>(exports.Env(), "cacheInstructions"));
  Set(exports, "cleanCache", Maintain<cache::Operation::kClean>);
  Set(exports, "invalidateCache", Maintain<cache::Operation::kInvalidate>);
  Set(exports, "flushCache", Maintain<cache::Operation::kFlush>);
  Set(exports, "copyBytes", CopyBytes);
  Set(exports, "fillBytes", FillBytes);
  Set(exports, "compareBytes", CompareBytes);
  Set(exports, "isDetached", IsDetached);
}

}  // namespace iospace
