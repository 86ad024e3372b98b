#include "arguments.h"

#include <algorithm>
#include <cmath>

#include "error.h"

namespace iospace {
namespace {

struct TypedArrayInfo {
  napi_typedarray_type type;
  std::size_t length;
  void* data;
};

TypedArrayInfo Inspect(Napi::Value array) {
  TypedArrayInfo info = {};
  const napi_status status =
      napi_get_typedarray_info(array.Env(), array, &info.type, &info.length, &info.data, nullptr, nullptr);
  NAPI_THROW_IF_FAILED(array.Env(), status, info);
  return info;
}

/// A typed array of `T`: what Node-API and the user call it.
template <typename T>
struct ArrayOf;
template <>
struct ArrayOf<std::int16_t> {
  static constexpr napi_typedarray_type kType = napi_int16_array;
  static constexpr const char* kName = "an Int16Array";
};
template <>
struct ArrayOf<std::int32_t> {
  static constexpr napi_typedarray_type kType = napi_int32_array;
  static constexpr const char* kName = "an Int32Array";
};
template <>
struct ArrayOf<std::uint64_t> {
  static constexpr napi_typedarray_type kType = napi_biguint64_array;
  static constexpr const char* kName = "a BigUint64Array";
};
template <>
struct ArrayOf<double> {
  static constexpr napi_typedarray_type kType = napi_float64_array;
  static constexpr const char* kName = "a Float64Array";
};

std::string Interval(const std::string& minimum, const std::string& maximum) {
  return "an integer from " + minimum + " to " + maximum;
}

}  // namespace

std::int64_t Integer(Napi::Value value, const char* name, std::int64_t minimum, std::int64_t maximum) {
  // One call for type and value: each register access comes through here.
  double number = 0;
  const napi_status status = napi_get_value_double(value.Env(), value, &number);
  if (status == napi_number_expected) throw InvalidType(value, name, "an integer");
  NAPI_THROW_IF_FAILED(value.Env(), status, 0);
  // Written so that NaN fails too.
  const bool inside = number >= static_cast<double>(minimum) && number <= static_cast<double>(maximum);
  if (!inside || number != std::trunc(number))
    throw OutOfRange(value, name, Interval(std::to_string(minimum), std::to_string(maximum)));
  return static_cast<std::int64_t>(number);
}

int Descriptor(Napi::Value value, const char* name) {
  return static_cast<int>(Integer(value, name, 0, std::numeric_limits<int>::max()));
}

std::size_t Length(Napi::Value value, const char* name, std::size_t minimum) {
  constexpr auto kMaximum = static_cast<std::int64_t>(std::min<std::uint64_t>(SIZE_MAX, kMaxSafeInteger));
  return static_cast<std::size_t>(Integer(value, name, static_cast<std::int64_t>(minimum), kMaximum));
}

std::uint64_t Unsigned64(Napi::Value value, const char* name, std::uint64_t maximum) {
  if (!value.IsBigInt()) throw InvalidType(value, name, "a bigint");
  bool lossless = false;
  const std::uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless || number > maximum) throw OutOfRange(value, name, Interval("0", std::to_string(maximum)));
  return number;
}

std::string Text(Napi::Value value, const char* name) {
  if (!value.IsString()) throw InvalidType(value, name, "a string");
  std::string text = value.As<Napi::String>();
  if (text.find('\0') != std::string::npos) throw OutOfRange(value, name, "a string without NUL");
  return text;
}

std::span<std::byte> Bytes(Napi::Value value, const char* name) {
  std::size_t length = 0;
  void* data = nullptr;
  if (value.IsTypedArray()) {
    const TypedArrayInfo info = Inspect(value);
    // Of a type without a name less than all of the array, never more.
    length = info.length * std::max<std::size_t>(ElementSize(info.type), 1);
    data = info.data;
  } else if (value.IsDataView()) {
    const napi_status status = napi_get_dataview_info(value.Env(), value, &length, &data, nullptr, nullptr);
    NAPI_THROW_IF_FAILED(value.Env(), status, {});
  } else {
    throw InvalidType(value, name, "a typed array or DataView");
  }
  return {static_cast<std::byte*>(data), length};
}

template <typename T>
std::span<T> Elements(Napi::Value value, const char* name) {
  if (!value.IsTypedArray()) throw InvalidType(value, name, ArrayOf<T>::kName);
  const TypedArrayInfo info = Inspect(value);
  if (info.type != ArrayOf<T>::kType) throw InvalidType(value, name, ArrayOf<T>::kName);
  return {static_cast<T*>(info.data), info.length};
}

template std::span<std::int16_t> Elements(Napi::Value, const char*);
template std::span<std::int32_t> Elements(Napi::Value, const char*);
template std::span<std::uint64_t> Elements(Napi::Value, const char*);
template std::span<double> Elements(Napi::Value, const char*);

}  // namespace iospace
