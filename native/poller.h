/// Tells JavaScript that a descriptor is readable, from the environment's own event loop.
///
/// libuv makes the descriptor non-blocking. O_NONBLOCK belongs to the open file, not to the descriptor, so
/// this reaches every duplicate of it, in other processes too, and stays when the poller is closed.
#pragma once

#include <napi.h>

#include <memory>

namespace iospace {

/// The part that libuv and the environment's end know; it frees itself once libuv has let go of it.
class Watch;

class Poller : public Napi::ObjectWrap<Poller> {
 public:
  static void Define(Napi::Object exports);

  /// new Poller(fd, onReady)
  explicit Poller(const Napi::CallbackInfo& info);
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
  ~Poller() override;

  /// Calls onReady.
  void Notify();
  /// The watch has ended with the environment.
  void Forget() { watch_ = nullptr; }

 private:
  void Start(const Napi::CallbackInfo& info);
  void Stop(const Napi::CallbackInfo& info);
  void Reference(const Napi::CallbackInfo& info);
  void Unreference(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /// Throws if closed.
  Watch& Live() const;
  /// A started poller must not be collected, though nothing in JavaScript may hold it.
  void Hold(bool started);

  Napi::FunctionReference on_ready_;
  std::unique_ptr<Napi::AsyncContext> context_;
  /// Null once closed.
  Watch* watch_ = nullptr;
  bool started_ = false;
};

}  // namespace iospace
