#include "futex.h"

#include <uv.h>

#include <algorithm>

#include "addon.h"
#include "arguments.h"
#include "error.h"
#include "futex_sleeper.h"
#include "syscall.h"

namespace iospace {
namespace {

/// A worker that is being terminated can end only between native calls.
constexpr std::int64_t kLongestSleep = 100'000'000;

constexpr std::int64_t kMillisecond = 1'000'000;

/// The word of an array of 32-bit integers. Known to lie in its memory; all else is the kernel's to find.
const std::uint32_t* Word(Napi::Value words, Napi::Value index) {
  const std::span<std::byte> bytes = Bytes(words, "words");
  const std::size_t count = bytes.size() / sizeof(std::uint32_t);
  if (count == 0) throw InvalidState(words.Env(), "the array has no memory");
  const auto at = static_cast<std::size_t>(Integer(index, "index", 0, static_cast<std::int64_t>(count) - 1));
  return reinterpret_cast<const std::uint32_t*>(bytes.data()) + at;
}

Detail About(const std::uint32_t* word) {
  return {.address = reinterpret_cast<std::uintptr_t>(word)};
}

/// Returns a syscall::Slept as its number. Sleeps for the time given, or the longest sleep.
Napi::Value FutexWait(const Napi::CallbackInfo& info) {
  const std::uint32_t* const word = Word(info[0], info[1]);
  const auto expected = Integer<std::uint32_t>(info[2], "expected");
  const std::int64_t time = Integer(info[3], "nanoseconds", 0, kMaxSafeInteger);
  const auto slept =
      Take(info.Env(), syscall::FutexWait(word, expected, std::min(time, kLongestSleep)), About(word));
  return Napi::Number::New(info.Env(), static_cast<int>(slept));
}

Napi::Value FutexWake(const Napi::CallbackInfo& info) {
  const std::uint32_t* const word = Word(info[0], info[1]);
  const int count = static_cast<int>(Integer(info[2], "count", 0, INT32_MAX));
  return Napi::Number::New(info.Env(), Take(info.Env(), syscall::FutexWake(word, count), About(word)));
}

}  // namespace

class Notifier final : public sleeper::Client {
 public:
  static Result<Notifier*> Open(napi_env env, FutexWaits* waits) {
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(env, &loop) != napi_ok) return Failure{ENOTSUP, "uv_async_init"};
    auto notifier = std::unique_ptr<Notifier>(new Notifier(waits));
    const int status = uv_async_init(loop, &notifier->handle_, OnNotified);
    if (status != 0) return Failure{-status, "uv_async_init"};
    notifier->handle_.data = notifier.get();
    // From here libuv knows the handle, and only Close() may free it.
    Notifier* const open = notifier.release();
    sleeper::Join(*open);
    open->Reference(false);
    // An asynchronous hook, because the environment must live until libuv has closed the handle.
    if (napi_add_async_cleanup_hook(env, OnEnvironmentEnd, open, &open->hook_) == napi_ok) return open;
    open->Close();
    return Failure{ENOTSUP, "napi_add_async_cleanup_hook"};
  }

  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  void Notify() noexcept override { uv_async_send(&handle_); }

  void Reference(bool holds) {
    auto* const handle = reinterpret_cast<uv_handle_t*>(&handle_);
    if (holds)
      uv_ref(handle);
    else
      uv_unref(handle);
  }

  /// Ends all waits now, and frees it when libuv has let go of it.
  void Close() {
    waits_ = nullptr;
    sleeper::Leave(*this);
    uv_close(reinterpret_cast<uv_handle_t*>(&handle_), OnClosed);
  }

 private:
  explicit Notifier(FutexWaits* waits) : waits_(waits) {}
  ~Notifier() {
    if (hook_ != nullptr) napi_remove_async_cleanup_hook(hook_);
  }
  friend std::default_delete<Notifier>;

  static void OnNotified(uv_async_t* handle) { static_cast<Notifier*>(handle->data)->waits_->Deliver(); }

  static void OnClosed(uv_handle_t* handle) { delete static_cast<Notifier*>(handle->data); }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) {
    auto* const notifier = static_cast<Notifier*>(data);
    // Without waits it is closing already.
    if (notifier->waits_ == nullptr) return;
    notifier->waits_->Forget();
    notifier->Close();
  }

  FutexWaits* waits_;
  uv_async_t handle_ = {};
  napi_async_cleanup_hook_handle hook_ = nullptr;
};

void FutexWaits::Define(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("futexWait", Napi::Function::New<FutexWait>(env, "futexWait"));
  exports.Set("futexWake", Napi::Function::New<FutexWake>(env, "futexWake"));
  exports.Set("FutexWaits", DefineClass(env, "FutexWaits",
                                        {
                                            InstanceMethod<&FutexWaits::Add>("add"),
                                            InstanceMethod<&FutexWaits::Cancel>("cancel"),
                                        }));
}

FutexWaits::FutexWaits(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsFunction()) throw InvalidType(info[0], "onEnded", "a function");
  on_ended_ = Napi::Persistent(info[0].As<Napi::Function>());
  // Not with this object as its resource: Node 26 would never let it be collected.
  context_ = std::make_unique<Napi::AsyncContext>(env, "iospace:FutexWaits");
  notifier_ = Take(env, Notifier::Open(env, this));
}

FutexWaits::~FutexWaits() {
  if (notifier_ != nullptr) notifier_->Close();
}

void FutexWaits::Deliver() {
  const Napi::Env env = Env();
  const Napi::HandleScope scope(env);
  const std::vector<sleeper::Ended> ended = sleeper::Collect(*notifier_);
  Count(waits_ - ended.size());
  for (const auto& [id, outcome] : ended) {
    CallFromLoop(env, *context_, on_ended_.Value(),
                 {Napi::Number::New(env, id), Napi::Number::New(env, outcome)});
  }
}

Notifier& FutexWaits::Live() const {
  if (notifier_ == nullptr) throw InvalidState(Env(), "the environment is ending");
  return *notifier_;
}

void FutexWaits::Count(std::size_t waits) {
  const bool held = waits_ > 0;
  waits_ = waits;
  if (held == (waits_ > 0)) return;
  notifier_->Reference(waits_ > 0);
  if (waits_ > 0)
    Ref();
  else
    Unref();
}

void FutexWaits::Add(const Napi::CallbackInfo& info) {
  const auto id = Integer<std::uint32_t>(info[0], "id");
  const std::uint32_t* const word = Word(info[1], info[2]);
  const auto expected = Integer<std::uint32_t>(info[3], "expected");
  const std::int64_t timeout = Integer(info[4], "timeout", -1, INT32_MAX);
  const std::int64_t deadline = timeout < 0 ? INT64_MAX : syscall::Now() + timeout * kMillisecond;
  Check(info.Env(), sleeper::Add(Live(), {id, word, expected, deadline}), About(word));
  Count(waits_ + 1);
}

void FutexWaits::Cancel(const Napi::CallbackInfo& info) {
  sleeper::Cancel(Live(), Integer<std::uint32_t>(info[0], "id"));
}

}  // namespace iospace
