#include "registers.h"

#include <sys/mman.h>
#include <uapi/iospace.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>

#include "arguments.h"
#include "barrier.h"
#include "error.h"
#include "syscall.h"

namespace iospace {

struct RegisterWindow {
  FileDescriptor device;
  std::uint32_t index = 0;
  std::size_t length = 0;
  bool closed = false;

  /// Null for windows that cannot be mapped, and once closed.
  volatile std::byte* registers = nullptr;
  Range mapped;
  Range status;
};

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

/// A checked offset of a word of `width` bytes. Throws if closed.
std::size_t OffsetArgument(const RegisterWindow& window, Napi::Value value, std::size_t width) {
  if (window.closed) throw InvalidState(value.Env(), "the registers have been closed");
  const std::size_t offset = Length(value, "offset");
  if (offset % width != 0) throw OutOfRange(value, "offset", "a multiple of " + std::to_string(width));
  if (width > window.length || offset > window.length - width)
    throw OutOfRange(value, "offset", "a place in a window of " + std::to_string(window.length) + " bytes");
  return offset;
}

/// The access that the kernel makes for windows that cannot be mapped.
std::uint64_t Access(Napi::Env env, const RegisterWindow& window, std::uint32_t flags, std::uint32_t width,
                     std::uint64_t offset, std::uint64_t value) {
  iospace_register_access access = {};
  access.size = sizeof access;
  access.flags = flags;
  access.index = window.index;
  access.width = width;
  access.offset = offset;
  access.value = value;
  Take(env, syscall::Ioctl(window.device.get(), IOSPACE_REGISTER_ACCESS, &access),
       {.request = IOSPACE_REGISTER_ACCESS});
  return access.value;
}

/// Whether the device had not gone by the access just made.
bool IsPresent(const RegisterWindow& window) {
  return reinterpret_cast<const volatile iospace_status*>(window.status.data())->gone == 0;
}

template <typename Word>
napi_value ToJavaScript(napi_env env, Word word) {
  napi_value value = nullptr;
  if constexpr (sizeof(Word) == 8)
    napi_create_bigint_uint64(env, word, &value);
  else
    napi_create_uint32(env, word, &value);
  return value;
}

/// Calls what throws as node-addon-api does.
template <typename Call>
napi_value Catching(Call call) {
  try {
    return call();
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
    return nullptr;
  }
}

napi_value Gone(napi_env env, const char* access) {
  return Catching([&]() -> napi_value { throw SystemError(env, {ENODEV, access}); });
}

/// The place of a word in a mapped window, or null for all that is unusual: the slow way finds out what.
template <typename Word>
volatile Word* Find(napi_env env, const RegisterWindow& window, napi_value offset) {
  double place = 0;
  if (!kHasAccess<Word> || window.registers == nullptr || sizeof(Word) > window.length ||
      napi_get_value_double(env, offset, &place) != napi_ok ||
      !(place >= 0 && place <= static_cast<double>(window.length - sizeof(Word))))
    return nullptr;
  const auto bytes = static_cast<std::size_t>(place);
  if (static_cast<double>(bytes) != place || bytes % sizeof(Word) != 0) return nullptr;
  return reinterpret_cast<volatile Word*>(window.registers + bytes);
}

/// The value of a word, or false for one that cannot be: the slow way finds out why.
template <typename Word>
bool GetWord(napi_env env, napi_value value, Word& word) {
  if constexpr (sizeof(Word) == 8) {
    std::uint64_t bits = 0;
    bool lossless = false;
    const bool is_bigint = napi_get_value_bigint_uint64(env, value, &bits, &lossless) == napi_ok;
    word = bits;
    return is_bigint && lossless;
  } else {
    double number = 0;
    if (napi_get_value_double(env, value, &number) != napi_ok ||
        !(number >= 0 && number <= std::numeric_limits<Word>::max()))
      return false;
    word = static_cast<Word>(number);
    return word == number;
  }
}

template <typename Word>
napi_value ReadSlowly(napi_env env, const RegisterWindow& window, napi_value argument) {
  return Catching([&]() -> napi_value {
    const std::size_t offset = OffsetArgument(window, {env, argument}, sizeof(Word));
    if constexpr (!kHasAccess<Word>) throw SystemError(env, {EOPNOTSUPP, Name<Word>::kRead});
    return ToJavaScript(env, static_cast<Word>(Access(env, window, 0, sizeof(Word), offset, 0)));
  });
}

template <typename Word>
napi_value WriteSlowly(napi_env env, const RegisterWindow& window, napi_value argument, napi_value value) {
  return Catching([&]() -> napi_value {
    const std::size_t offset = OffsetArgument(window, {env, argument}, sizeof(Word));
    const Word word = WordArgument<Word>({env, value});
    if constexpr (!kHasAccess<Word>) throw SystemError(env, {EOPNOTSUPP, Name<Word>::kWrite});
    Access(env, window, IOSPACE_REGISTER_WRITE, sizeof(Word), offset, word);
    return nullptr;
  });
}

template <typename Word>
napi_value Read(napi_env env, napi_callback_info info) {
  napi_value offset = nullptr;
  std::size_t count = 1;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, &offset, nullptr, &data) != napi_ok) return nullptr;
  const auto& window = *static_cast<const RegisterWindow*>(data);
  const volatile Word* const place = Find<Word>(env, window, offset);
  if (place == nullptr) return ReadSlowly<Word>(env, window, offset);
  const Word word = *place;
  barrier::AfterDeviceRead();
  return IsPresent(window) ? ToJavaScript(env, word) : Gone(env, Name<Word>::kRead);
}

template <typename Word>
napi_value Write(napi_env env, napi_callback_info info) {
  std::array<napi_value, 2> values = {};
  std::size_t count = values.size();
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, values.data(), nullptr, &data) != napi_ok) return nullptr;
  const auto& window = *static_cast<const RegisterWindow*>(data);
  volatile Word* const place = Find<Word>(env, window, values[0]);
  Word word = 0;
  if (place == nullptr || !GetWord(env, values[1], word))
    return WriteSlowly<Word>(env, window, values[0], values[1]);
  barrier::BeforeDeviceWrite();
  *place = word;
  return IsPresent(window) ? nullptr : Gone(env, Name<Word>::kWrite);
}

using Shared = std::shared_ptr<RegisterWindow>;

void SetAccess(Napi::Object object, const char* name, napi_callback access, const Shared& window) {
  const Napi::Env env = object.Env();
  napi_value function = nullptr;
  NAPI_THROW_IF_FAILED_VOID(
      env, napi_create_function(env, name, NAPI_AUTO_LENGTH, access, window.get(), &function));
  Napi::Object(env, function)
      .AddFinalizer([](Napi::Env, Shared* share) { delete share; }, new Shared(window));
  object.Set(name, function);
}

template <typename Word>
void SetAccesses(Napi::Object object, const Shared& window) {
  SetAccess(object, Name<Word>::kRead, Read<Word>, window);
  SetAccess(object, Name<Word>::kWrite, Write<Word>, window);
}

}  // namespace

void Registers::Define(Napi::Object exports) {
  exports.Set("Registers",
              DefineClass(exports.Env(), "Registers", {InstanceMethod<&Registers::Close>("close")}));
}

Registers::Registers(const Napi::CallbackInfo& info)
    : ObjectWrap(info), window_(std::make_shared<RegisterWindow>()) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  window_->index = Integer<std::uint32_t>(info[1], "index");
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
    window_->device = Take(env, syscall::Duplicate(fd));
  } else {
    window_->mapped = Take(env, syscall::Map(fd, begin + length, PROT_READ | PROT_WRITE, MAP_SHARED,
                                             static_cast<off_t>(offset)));
    window_->status = Take(env, syscall::Map(fd, page, PROT_READ, MAP_SHARED, IOSPACE_STATUS_OFFSET));
    window_->registers = window_->mapped.data() + begin;
  }
  window_->length = length;

  const Napi::Object self = Value();
  SetAccesses<std::uint8_t>(self, window_);
  SetAccesses<std::uint16_t>(self, window_);
  SetAccesses<std::uint32_t>(self, window_);
  SetAccesses<std::uint64_t>(self, window_);
}

void Registers::Close(const Napi::CallbackInfo&) {
  window_->closed = true;
  window_->registers = nullptr;
  window_->mapped = Range();
  window_->status = Range();
  window_->device = FileDescriptor();
}

}  // namespace iospace
