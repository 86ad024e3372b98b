#include "poller.h"

#include <uv.h>

#include "addon.h"
#include "arguments.h"
#include "error.h"
#include "syscall.h"

namespace iospace {

class Watch {
 public:
  /// Watches a duplicate: libuv aborts the process if a descriptor that it watches is closed, and takes no
  /// descriptor twice.
  static Result<Watch*> Open(napi_env env, int fd, Poller* poller) {
    Result<FileDescriptor> duplicate = syscall::Duplicate(fd);
    if (const auto* failure = std::get_if<Failure>(&duplicate)) return *failure;
    auto watch = std::unique_ptr<Watch>(new Watch(std::get<FileDescriptor>(std::move(duplicate)), poller));
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(env, &loop) != napi_ok) return Failure{ENOTSUP, "uv_poll_init"};
    const int status = uv_poll_init(loop, &watch->handle_, watch->fd_.get());
    if (status != 0) return Failure{-status, "epoll_ctl"};
    watch->handle_.data = watch.get();
    // From here libuv knows the handle, and only Close() may free it.
    Watch* const open = watch.release();
    // An asynchronous hook, because the environment must live until libuv has closed the handle.
    if (napi_add_async_cleanup_hook(env, OnEnvironmentEnd, open, &open->hook_) == napi_ok) return open;
    open->Close();
    return Failure{ENOTSUP, "napi_add_async_cleanup_hook"};
  }

  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void Start() {
    // libuv would end the watch that there is, and begin it anew.
    if (uv_is_active(reinterpret_cast<uv_handle_t*>(&handle_)) == 0)
      uv_poll_start(&handle_, UV_READABLE, OnReady);
  }
  void Stop() { uv_poll_stop(&handle_); }
  void Reference() { uv_ref(reinterpret_cast<uv_handle_t*>(&handle_)); }
  void Unreference() { uv_unref(reinterpret_cast<uv_handle_t*>(&handle_)); }

  /// Ends the watch now, and frees it when libuv has let go of it.
  void Close() {
    poller_ = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle_), OnClosed);
    fd_ = FileDescriptor();
  }

 private:
  Watch(FileDescriptor fd, Poller* poller) : fd_(std::move(fd)), poller_(poller) {}
  ~Watch() {
    if (hook_ != nullptr) napi_remove_async_cleanup_hook(hook_);
  }
  friend std::default_delete<Watch>;

  static void OnReady(uv_poll_t* handle, int, int) {
    // An error (libuv then stops) is news for the reader too: its read() says what it is.
    static_cast<Watch*>(handle->data)->poller_->Notify();
  }

  static void OnClosed(uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) {
    auto* const watch = static_cast<Watch*>(data);
    // Without a poller it is closing already.
    if (watch->poller_ == nullptr) return;
    watch->poller_->Forget();
    watch->Close();
  }

  FileDescriptor fd_;
  Poller* poller_;
  uv_poll_t handle_ = {};
  napi_async_cleanup_hook_handle hook_ = nullptr;
};

void Poller::Define(Napi::Object exports) {
  exports.Set("Poller", DefineClass(exports.Env(), "Poller",
                                    {
                                        InstanceMethod<&Poller::Start>("start"),
                                        InstanceMethod<&Poller::Stop>("stop"),
                                        InstanceMethod<&Poller::Reference>("ref"),
                                        InstanceMethod<&Poller::Unreference>("unref"),
                                        InstanceMethod<&Poller::Close>("close"),
                                    }));
}

Poller::Poller(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  if (!info[1].IsFunction()) throw InvalidType(info[1], "onReady", "a function");
  on_ready_ = Napi::Persistent(info[1].As<Napi::Function>());
  // Not with this object as its resource: Node 26 would never let it be collected.
  context_ = std::make_unique<Napi::AsyncContext>(env, "iospace:Poller");
  watch_ = Take(env, Watch::Open(env, fd, this));
}

Poller::~Poller() {
  if (watch_ != nullptr) watch_->Close();
}

void Poller::Notify() {
  const Napi::Env env = Env();
  const Napi::HandleScope scope(env);
  CallFromLoop(env, *context_, on_ready_.Value(), {});
}

Watch& Poller::Live() const {
  if (watch_ == nullptr) throw InvalidState(Env(), "the poller has been closed");
  return *watch_;
}

void Poller::Hold(bool started) {
  if (started == started_) return;
  started_ = started;
  if (started)
    Ref();
  else
    Unref();
}

void Poller::Start(const Napi::CallbackInfo&) {
  Live().Start();
  Hold(true);
}

void Poller::Stop(const Napi::CallbackInfo&) {
  Live().Stop();
  Hold(false);
}

void Poller::Reference(const Napi::CallbackInfo&) {
  Live().Reference();
}

void Poller::Unreference(const Napi::CallbackInfo&) {
  Live().Unreference();
}

void Poller::Close(const Napi::CallbackInfo&) {
  if (watch_ == nullptr) return;
  std::exchange(watch_, nullptr)->Close();
  Hold(false);
}

}  // namespace iospace
