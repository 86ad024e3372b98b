#include "mapping.h"

#include <sys/mman.h>
#include <sys/shm.h>

#include <charconv>
#include <cstring>
#include <string>

#include "addon.h"
#include "arguments.h"
#include "error.h"
#include "quarantine.h"

/// Not in Node 20, nor in the first releases of 22 and 24: null there. Node's headers have it as experimental
/// only.
extern "C" NAPI_EXTERN __attribute__((weak)) napi_status NAPI_CDECL
node_api_create_external_sharedarraybuffer(napi_env env, void* data, size_t length,
                                           void (*finalize)(void* data, void* hint), void* hint,
                                           napi_value* result);

namespace iospace {

/// What a mapping occupies, from mmap() to the last pointer that JavaScript could have into it.
class Region {
 public:
  Region(Range range, std::size_t length) : range_(std::move(range)), length_(length) {}
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() {
    if (range_.size() > 0) quarantine::Put(std::move(range_));
  }

  std::byte* data() const { return range_.data(); }
  /// As asked for; the range is whole pages.
  std::size_t length() const { return length_; }
  std::span<std::byte> pages() const { return {range_.data(), range_.size()}; }

  /// Puts zero memory in the place of what is mapped.
  Status Empty() {
    Status failure = syscall::Replace(range_, PROT_READ | PROT_WRITE);
    released_ = !failure;
    return failure;
  }

  /// Gives the range up at once, where nothing points there and there is no room for the zero memory.
  void Drop() {
    range_ = Range();
    released_ = true;
  }

  /// Leaves the range, which then costs address space only, to whoever may still point there.
  void Abandon() {
    if (!released_) static_cast<void>(Empty());
    static_cast<void>(range_.Detach());
  }

  bool released() const { return released_; }

 private:
  Range range_;
  std::size_t length_;
  bool released_ = false;
};

namespace {

constexpr napi_type_tag kTag = {0x6b1f0c0e5d9a4d7b, 0x9c52a6f6e1f84b3d};

/// Flags that decide where a mapping lies, or let it grow: the range would not be ours alone. Huge pages are
/// to be had from hugetlbfs and memfd, whose page size is known.
constexpr int kRefusedFlags = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN | MAP_STACK | MAP_HUGETLB;

/// Calls the hook `leaked`. Made for finalizers, which cannot throw: where JavaScript cannot be called any
/// more, nobody is told.
void ReportLeak(napi_env env, const Napi::FunctionReference& leaked, std::uintptr_t address,
                std::size_t length) noexcept {
  char description[] = "mapping at 0x0000000000000000";
  char* const digits = std::strchr(description, 'x') + 1;
  const char* const end = std::to_chars(digits, std::end(description), address, 16).ptr;

  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value hook = nullptr;
  napi_value about = nullptr;
  napi_value bytes = nullptr;
  if (napi_get_reference_value(env, leaked, &hook) == napi_ok &&
      napi_create_string_latin1(env, description, static_cast<std::size_t>(end - description), &about) ==
          napi_ok &&
      napi_create_double(env, static_cast<double>(length), &bytes) == napi_ok)
    CallFromLoop(env, nullptr, hook, {about, bytes});
  napi_close_handle_scope(env, scope);
}

/// Gives up one of the shares of `region`; the last one ends it, and tells of it if nobody released it. The
/// end of the environment releases what other threads have of it.
void GiveUp(napi_env env, std::shared_ptr<Region> region) noexcept {
  if (region == nullptr) return;
  if (region.use_count() > 1) {
    if (!region->released() && IsEnding(env)) static_cast<void>(region->Empty());
    return;
  }
  const bool leaked = !region->released();
  const std::size_t length = region->length();
  const auto address = reinterpret_cast<std::uintptr_t>(region->data());
  region.reset();

  const Addon& addon = Addon::Of(env);
  if (leaked && !addon.leaked.IsEmpty() && !IsEnding(env)) ReportLeak(env, addon.leaked, address, length);
}

void FinalizeBuffer(napi_env env, void*, void* hint) {
  const std::unique_ptr<std::shared_ptr<Region>> share(static_cast<std::shared_ptr<Region>*>(hint));
  // The end of an environment finalizes its ArrayBuffers, although the memory of one that transfer() and
  // postMessage() carried off lives on in another thread.
  if (IsEnding(env)) (*share)->Abandon();
  GiveUp(env, std::move(*share));
}

/// Called in any thread, also in one that has no environment any more.
void FinalizeSharedBuffer(void*, void* hint) {
  delete static_cast<std::shared_ptr<Region>*>(hint);
}

std::shared_ptr<Region> MapFile(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(Integer(info[0], "fd", -1, INT32_MAX));
  const std::size_t length = Length(info[1], "byteLength", 1);
  const int protection = Integer<int>(info[2], "protection");
  const int flags = Integer<int>(info[3], "flags");
  const std::uint64_t offset = Unsigned64(info[4], "offset", INT64_MAX);
  if ((flags & kRefusedFlags) != 0)
    throw OutOfRange(info[3], "flags", "no flag that fixes or grows the address range");

  Range range = Take(info.Env(), quarantine::Map(fd, length, protection, flags, static_cast<off_t>(offset)));
  return std::make_shared<Region>(std::move(range), length);
}

/// Of a segment of System V. It ends like every other mapping, not by shmdt(): the kernel counts an
/// attachment by what is mapped, and does so when something else takes the place of it.
std::shared_ptr<Region> AttachSegment(const Napi::CallbackInfo& info) {
  const int id = Integer<int>(info[0], "id");
  const int flags = Integer<int>(info[1], "flags");
  if ((flags & ~(SHM_RDONLY | SHM_EXEC)) != 0)
    throw OutOfRange(info[1], "flags", "no flag that fixes the address range");

  Attachment attachment = Take(info.Env(), quarantine::AttachSegment(id, flags));
  return std::make_shared<Region>(std::move(attachment.range), attachment.length);
}

}  // namespace

void Mapping::Define(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  const Napi::Function constructor = DefineClass(env, "Mapping",
                                                 {
                                                     InstanceMethod<&Mapping::Buffer>("buffer"),
                                                     InstanceMethod<&Mapping::SharedBuffer>("sharedBuffer"),
                                                     InstanceMethod<&Mapping::Renew>("renew"),
                                                     InstanceMethod<&Mapping::Release>("release"),
                                                     InstanceMethod<&Mapping::Protect>("protect"),
                                                     InstanceMethod<&Mapping::Sync>("sync"),
                                                     InstanceMethod<&Mapping::Advise>("advise"),
                                                     InstanceMethod<&Mapping::Lock>("lock"),
                                                     InstanceMethod<&Mapping::Unlock>("unlock"),
                                                 });
  const auto prototype = constructor.Get("prototype").As<Napi::Object>();
  // Not an InstanceAccessor: V8 checks the receiver of methods, but not of those.
  prototype.DefineProperty(Napi::PropertyDescriptor::Accessor<IsReleased>("released"));
  Addon::Of(env).mapping = Napi::Persistent(constructor);
  exports.Set("mmap",
              Napi::Function::New(
                  env,
                  [](const Napi::CallbackInfo& info) -> Napi::Value {
                    return Addon::Of(info.Env()).mapping.New({info[0], info[1], info[2], info[3], info[4]});
                  },
                  "mmap"));
  exports.Set("shmat", Napi::Function::New(
                           env,
                           [](const Napi::CallbackInfo& info) -> Napi::Value {
                             return Addon::Of(info.Env()).mapping.New({info[0], info[1]});
                           },
                           "shmat"));
}

Mapping::Mapping(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const Napi::Env env = info.Env();
  region_ = info.Length() == 2 ? AttachSegment(info) : MapFile(info);
  const Napi::Object self = Value();
  self.TypeTag(&kTag);
  self.DefineProperties({
      Napi::PropertyDescriptor::Value(
          "byteLength", Napi::Number::New(env, static_cast<double>(region_->length())), napi_enumerable),
      Napi::PropertyDescriptor::Value(
          "address", Napi::BigInt::New(env, std::uint64_t{reinterpret_cast<std::uintptr_t>(region_->data())}),
          napi_enumerable),
  });
}

Mapping::~Mapping() {
  GiveUp(Env(), std::move(region_));
}

Napi::Value Mapping::IsReleased(const Napi::CallbackInfo& info) {
  if (!info.This().IsObject() || !info.This().As<Napi::Object>().CheckTypeTag(&kTag))
    throw InvalidType(info.This(), "this", "a Mapping");
  const Mapping* const self = Unwrap(info.This().As<Napi::Object>());
  return Napi::Boolean::New(info.Env(), self->region_ == nullptr);
}

Napi::Value Mapping::Buffer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Region& region = Live();
  if (const Napi::ArrayBuffer existing = Existing(); !existing.IsEmpty()) return existing;

  auto share = std::make_unique<std::shared_ptr<Region>>(region_);
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, region.data(), region.length(),
                                                              FinalizeBuffer, share.get(), &buffer);
  // Where external buffers exist the share is the finalizer's even if the call failed: Node 20 refuses more
  // than 4 GiB, and runs the finalizer later.
  if (status != napi_no_external_buffers_allowed) static_cast<void>(share.release());
  NAPI_THROW_IF_FAILED(env, status, Napi::Value());
  buffer_ = Napi::Reference<Napi::ArrayBuffer>::New(Napi::ArrayBuffer(env, buffer), 0);
  return buffer_.Value();
}

Napi::Value Mapping::SharedBuffer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Region& region = Live();
  if (node_api_create_external_sharedarraybuffer == nullptr) return env.Undefined();

  auto share = std::make_unique<std::shared_ptr<Region>>(region_);
  napi_value buffer = nullptr;
  const napi_status status = node_api_create_external_sharedarraybuffer(
      env, region.data(), region.length(), FinalizeSharedBuffer, share.get(), &buffer);
  NAPI_THROW_IF_FAILED(env, status, Napi::Value());
  static_cast<void>(share.release());
  return {env, buffer};
}

void Mapping::Renew(const Napi::CallbackInfo& info) {
  if (!info[0].IsBoolean()) throw InvalidType(info[0], "detach", "a boolean");
  Live();
  Napi::ArrayBuffer buffer = Existing();
  if (info[0].As<Napi::Boolean>() && !buffer.IsEmpty() && !buffer.IsDetached()) buffer.Detach();
  // Its finalizer keeps its share of the region.
  buffer_.Reset();
}

void Mapping::Release(const Napi::CallbackInfo& info) {
  if (!info[0].IsBoolean()) throw InvalidType(info[0], "detach", "a boolean");
  if (region_ == nullptr) return;

  // Without an ArrayBuffer (use_count() is 1) nothing points into the range, and its quarantine empties it.
  if (region_.use_count() > 1) {
    Napi::ArrayBuffer buffer = Existing();
    const bool detach = info[0].As<Napi::Boolean>() && !buffer.IsEmpty() && !buffer.IsDetached();
    // First, so that a failure changes nothing.
    const Status failure = region_->Empty();
    if (failure && !detach) throw SystemError(info.Env(), *failure);
    if (detach) buffer.Detach();
    if (failure) region_->Drop();
  }
  buffer_.Reset();
  region_.reset();
}

Napi::ArrayBuffer Mapping::Existing() const {
  return buffer_.IsEmpty() ? Napi::ArrayBuffer() : buffer_.Value();
}

Region& Mapping::Live() const {
  if (region_ == nullptr) throw InvalidState(Env(), "the mapping has been released");
  return *region_;
}

std::span<std::byte> Mapping::Part(Napi::Value offset, Napi::Value length) const {
  const std::span<std::byte> pages = Live().pages();
  const std::size_t begin = Length(offset, "offset");
  const std::size_t size = Length(length, "byteLength");
  if (begin > pages.size()) throw OutOfRange(offset, "offset", "at most " + std::to_string(pages.size()));
  if (size > pages.size() - begin)
    throw OutOfRange(length, "byteLength", "at most " + std::to_string(pages.size() - begin));
  return pages.subspan(begin, size);
}

void Mapping::Protect(const Napi::CallbackInfo& info) {
  const int protection = Integer<int>(info[0], "protection");
  Check(info.Env(), syscall::Protect(Part(info[1], info[2]), protection));
}

void Mapping::Sync(const Napi::CallbackInfo& info) {
  const int flags = Integer<int>(info[0], "flags");
  Check(info.Env(), syscall::Sync(Part(info[1], info[2]), flags));
}

void Mapping::Advise(const Napi::CallbackInfo& info) {
  const int advice = Integer<int>(info[0], "advice");
  Check(info.Env(), syscall::Advise(Part(info[1], info[2]), advice));
}

void Mapping::Lock(const Napi::CallbackInfo& info) {
  Check(info.Env(), syscall::Lock(Part(info[0], info[1])));
}

void Mapping::Unlock(const Napi::CallbackInfo& info) {
  Check(info.Env(), syscall::Unlock(Part(info[0], info[1])));
}

}  // namespace iospace
