/// Descriptors: opening, closing, sizing, waiting, and the ioctls of any device.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

/// Owns a descriptor for an object of JavaScript: until close(), the object's collection or the end of the
/// environment.
class OwnedFile : public Napi::ObjectWrap<OwnedFile> {
 public:
  static void Define(Napi::Object exports);

  /// new OwnedFile(fd): the descriptor is this object's from here.
  explicit OwnedFile(const Napi::CallbackInfo& info);

 private:
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor file_;
};

void DefineFiles(Napi::Object exports);

}  // namespace iospace
