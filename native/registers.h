/// A window of a device's registers: accesses of exact width, in order with memory, that report a device
/// which has gone.
///
/// Mapped where the device allows it, with the status page beside it; else each access is an ioctl.
#pragma once

#include <napi.h>

#include <memory>

namespace iospace {

/// What the functions of one object share.
struct RegisterWindow;

/// The accesses are functions of the object's own, by Node-API itself: to find out whose window it is would
/// take longer than the access.
class Registers : public Napi::ObjectWrap<Registers> {
 public:
  static void Define(Napi::Object exports);

  /// new Registers(fd, index, info)
  explicit Registers(const Napi::CallbackInfo& info);

 private:
  void Close(const Napi::CallbackInfo& info);

  std::shared_ptr<RegisterWindow> window_;
};

}  // namespace iospace
