#include "registers.h"

#include <sys/mman.h>
#include <uapi/iospace.h>

#include <cerrno>
#include <limits>

#include "arguments.h"
#include "barrier.h"
#include "error.h"

namespace iospace {
namespace {

/// The accesses of one width, as JavaScript calls them.
template <typename Word>
struct Name;
template <>
struct Name<std::uint8_t> {
  static constexpr const char* kRead = "read8";
  static constexpr const char* kWrite = "write8";
};
template <>
struct Name<std::uint16_t> {
  static constexpr const char* kRead = "read16";
  static constexpr const char* kWrite = "write16";
};
template <>
struct Name<std::uint32_t> {
  static constexpr const char* kRead = "read32";
  static constexpr const char* kWrite = "write32";
};
template <>
struct Name<std::uint64_t> {
  static constexpr const char* kRead = "read64";
  static constexpr const char* kWrite = "write64";
};

/// Whether this machine has a load and a store of this width.
template <typename Word>
constexpr bool kHasAccess = sizeof(Word) <= sizeof(void*);

template <typename Word>
Word WordArgument(Napi::Value value) {
  if constexpr (sizeof(Word) == 8)
    return Unsigned64(value, "value");
  else
    return Integer<Word>(value, "value");
}

template <typename Word>
Napi::Value ToJavaScript(Napi::Env env, Word word) {
  if constexpr (sizeof(Word) == 8)
    return Napi::BigInt::New(env, std::uint64_t{word});
  else
    return Napi::Number::New(env, word);
}

}  // namespace

void Registers::Define(Napi::Object exports) {
  exports.Set("Registers",
              DefineClass(exports.Env(), "Registers",
                          {
                              InstanceMethod<&Registers::Read<std::uint8_t>>(Name<std::uint8_t>::kRead),
                              InstanceMethod<&Registers::Read<std::uint16_t>>(Name<std::uint16_t>::kRead),
                              InstanceMethod<&Registers::Read<std::uint32_t>>(Name<std::uint32_t>::kRead),
                              InstanceMethod<&Registers::Read<std::uint64_t>>(Name<std::uint64_t>::kRead),
                              InstanceMethod<&Registers::Write<std::uint8_t>>(Name<std::uint8_t>::kWrite),
                              InstanceMethod<&Registers::Write<std::uint16_t>>(Name<std::uint16_t>::kWrite),
                              InstanceMethod<&Registers::Write<std::uint32_t>>(Name<std::uint32_t>::kWrite),
                              InstanceMethod<&Registers::Write<std::uint64_t>>(Name<std::uint64_t>::kWrite),
                              InstanceMethod<&Registers::Close>("close"),
                          }));
}

Registers::Registers(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  index_ = Integer<std::uint32_t>(info[1], "index");
  if (!info[2].IsObject()) throw InvalidType(info[2], "info", "an object");
  const auto window = info[2].As<Napi::Object>();
  const std::size_t length = Length(window.Get("byteLength"), "info.byteLength", 1);
  const std::uint64_t offset = Unsigned64(window.Get("mmapOffset"), "info.mmapOffset", INT64_MAX);
  const std::size_t page = syscall::PageSize();
  const auto begin = static_cast<std::size_t>(
      Integer(window.Get("pageOffset"), "info.pageOffset", 0, static_cast<std::int64_t>(page - 1)));
  if (length > std::numeric_limits<std::size_t>::max() - begin)
    throw OutOfRange(window.Get("byteLength"), "info.byteLength", "bytes that can be mapped");

  if (offset == 0) {
    device_ = Take(env, syscall::Duplicate(fd));
  } else {
    window_ = Take(env, syscall::Map(fd, begin + length, PROT_READ | PROT_WRITE, MAP_SHARED,
                                     static_cast<off_t>(offset)));
    status_ = Take(env, syscall::Map(fd, page, PROT_READ, MAP_SHARED, IOSPACE_STATUS_OFFSET));
    registers_ = window_.data() + begin;
  }
  length_ = length;
}

template <typename Word>
Napi::Value Registers::Read(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::size_t offset = Offset(info[0], sizeof(Word));
  if constexpr (!kHasAccess<Word>) {
    throw SystemError(env, {EOPNOTSUPP, Name<Word>::kRead});
  } else {
    if (registers_ == nullptr)
      return ToJavaScript(env, static_cast<Word>(Access(env, 0, sizeof(Word), offset, 0)));
    const Word word = *reinterpret_cast<const volatile Word*>(registers_ + offset);
    barrier::AfterDeviceRead();
    CheckPresent(env, Name<Word>::kRead);
    return ToJavaScript(env, word);
  }
}

template <typename Word>
void Registers::Write(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::size_t offset = Offset(info[0], sizeof(Word));
  const Word word = WordArgument<Word>(info[1]);
  if constexpr (!kHasAccess<Word>) {
    throw SystemError(env, {EOPNOTSUPP, Name<Word>::kWrite});
  } else {
    if (registers_ == nullptr) {
      Access(env, IOSPACE_REGISTER_WRITE, sizeof(Word), offset, word);
      return;
    }
    barrier::BeforeDeviceWrite();
    *reinterpret_cast<volatile Word*>(registers_ + offset) = word;
    CheckPresent(env, Name<Word>::kWrite);
  }
}

void Registers::Close(const Napi::CallbackInfo&) {
  closed_ = true;
  registers_ = nullptr;
  window_ = Range();
  status_ = Range();
  device_ = FileDescriptor();
}

void Registers::CheckPresent(Napi::Env env, const char* access) const {
  const auto* const status = reinterpret_cast<const volatile iospace_status*>(status_.data());
  if (status->gone != 0) throw SystemError(env, {ENODEV, access});
}

std::uint64_t Registers::Access(Napi::Env env, std::uint32_t flags, std::uint32_t width, std::uint64_t offset,
                                std::uint64_t value) const {
  iospace_register_access access = {};
  access.size = sizeof access;
  access.flags = flags;
  access.index = index_;
  access.width = width;
  access.offset = offset;
  access.value = value;
  Take(env, syscall::Ioctl(device_.get(), IOSPACE_REGISTER_ACCESS, &access),
       {.request = IOSPACE_REGISTER_ACCESS});
  return access.value;
}

std::size_t Registers::Offset(Napi::Value value, std::size_t width) const {
  if (closed_) throw InvalidState(value.Env(), "the registers have been closed");
  const std::size_t offset = Length(value, "offset");
  if (offset % width != 0) throw OutOfRange(value, "offset", "a multiple of " + std::to_string(width));
  if (width > length_ || offset > length_ - width)
    throw OutOfRange(value, "offset", "a place in a window of " + std::to_string(length_) + " bytes");
  return offset;
}

}  // namespace iospace
