/// Descriptors: opening, closing, sizing, waiting, and the ioctls of any device.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

void DefineFiles(Napi::Object exports);

// What opens a file, as JavaScript calls it.
/// open(path, flags, mode)
FileDescriptor OpenFile(const Napi::CallbackInfo& info);
/// duplicate(fd)
FileDescriptor DuplicateFile(const Napi::CallbackInfo& info);
/// eventfd(initial, flags)
FileDescriptor CreateEventfd(const Napi::CallbackInfo& info);

/// Exports it as a function that gives the descriptor away.
template <FileDescriptor (*kOpen)(const Napi::CallbackInfo&)>
Napi::Value Opened(const Napi::CallbackInfo& info) {
  FileDescriptor file = kOpen(info);
  return Napi::Number::New(info.Env(), file.Detach());
}

}  // namespace iospace
