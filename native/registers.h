/// A window of a device's registers: accesses of exact width, in order with memory, that report a device
/// which has gone.
///
/// Mapped where the device allows it, with the status page beside it; else each access is an ioctl.
#pragma once

#include <napi.h>

#include <cstdint>

#include "syscall.h"

namespace iospace {

class Registers : public Napi::ObjectWrap<Registers> {
 public:
  static void Define(Napi::Object exports);

  /// new Registers(fd, index, info)
  explicit Registers(const Napi::CallbackInfo& info);

 private:
  template <typename Word>
  Napi::Value Read(const Napi::CallbackInfo& info);
  template <typename Word>
  void Write(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /// Throws ENODEV if the device had gone by the access just made.
  void CheckPresent(Napi::Env env, const char* access) const;
  /// The access that the kernel makes for windows that cannot be mapped.
  std::uint64_t Access(Napi::Env env, std::uint32_t flags, std::uint32_t width, std::uint64_t offset,
                       std::uint64_t value) const;
  /// A checked offset of a word of `width` bytes. Throws if closed.
  std::size_t Offset(Napi::Value value, std::size_t width) const;

  FileDescriptor device_;
  std::uint32_t index_ = 0;
  std::size_t length_ = 0;
  bool closed_ = false;

  /// Null for windows that cannot be mapped.
  volatile std::byte* registers_ = nullptr;
  Range window_;
  Range status_;
};

}  // namespace iospace
