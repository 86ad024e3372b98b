/// Arguments from JavaScript: each function gives the value, or throws a TypeError or RangeError that names
/// the argument. None of them runs code of the user's, so that what is checked first is still true later.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

namespace iospace {

/// The largest integer below which a number holds every integer.
inline constexpr std::int64_t kMaxSafeInteger = (std::int64_t{1} << 53) - 1;

std::int64_t Integer(Napi::Value value, const char* name, std::int64_t minimum, std::int64_t maximum);

/// Any value of an integer type of at most 32 bits.
template <typename T>
T Integer(Napi::Value value, const char* name) {
  static_assert(sizeof(T) <= 4);
  return static_cast<T>(Integer(value, name, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
}

/// A descriptor, open or not.
int Descriptor(Napi::Value value, const char* name);

/// A number of bytes from `minimum` on that a pointer can span.
std::size_t Length(Napi::Value value, const char* name, std::size_t minimum = 0);

/// A bigint from 0 to `maximum`.
std::uint64_t Unsigned64(Napi::Value value, const char* name, std::uint64_t maximum = UINT64_MAX);

/// A string that C can hold: without NUL.
std::string Text(Napi::Value value, const char* name);

/// Bytes of an element of a typed array; 0 for types that this Node-API version has no name for.
inline std::size_t ElementSize(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array:
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      return 1;
    case napi_int16_array:
    case napi_uint16_array:
      return 2;
    case napi_int32_array:
    case napi_uint32_array:
    case napi_float32_array:
      return 4;
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array:
      return 8;
    default:
      return 0;
  }
}

/// The memory of a typed array or DataView, shared or not; empty if it is detached. Asking for it moves a
/// small typed array off V8's heap for good: the address stays valid while the view lives and is attached.
std::span<std::byte> Bytes(Napi::Value value, const char* name);

/// The elements of a typed array of exactly the type `T`.
template <typename T>
std::span<T> Elements(Napi::Value value, const char* name);

}  // namespace iospace
