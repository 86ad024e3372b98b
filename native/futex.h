/// Futexes as JavaScript sees them: sleeping on a word for a while, waking others, and waits that the event
/// loop is told of.
#pragma once

#include <napi.h>

#include <memory>

namespace iospace {

/// The part that libuv, the sleeper and the environment's end know; it frees itself once libuv has let go of
/// it.
class Notifier;

/// All waits of one environment that do not block it.
class FutexWaits : public Napi::ObjectWrap<FutexWaits> {
 public:
  /// Exports futexWait() and futexWake(), too.
  static void Define(Napi::Object exports);

  /// new FutexWaits(onEnded)
  explicit FutexWaits(const Napi::CallbackInfo& info);
  FutexWaits(const FutexWaits&) = delete;
  FutexWaits& operator=(const FutexWaits&) = delete;
  ~FutexWaits() override;

  /// Calls onEnded for each wait that has ended.
  void Deliver();
  /// The notifier has ended with the environment.
  void Forget() { notifier_ = nullptr; }

 private:
  void Add(const Napi::CallbackInfo& info);
  void Cancel(const Napi::CallbackInfo& info);

  /// Throws if the environment is ending.
  Notifier& Live() const;
  /// While there are waits, they keep this object and the event loop.
  void Count(std::size_t waits);

  Napi::FunctionReference on_ended_;
  std::unique_ptr<Napi::AsyncContext> context_;
  /// Null once the environment is ending.
  Notifier* notifier_ = nullptr;
  std::size_t waits_ = 0;
};

}  // namespace iospace
