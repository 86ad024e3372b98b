/// Files that are memory: POSIX shared memory by name, which may end with the process; memfd without one,
/// which can be sealed.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

void DefineSharedMemory(Napi::Object exports);

/// shmOpen(name, flags, mode)
FileDescriptor OpenObject(const Napi::CallbackInfo& info);
/// memfdCreate(name, flags)
FileDescriptor CreateMemfd(const Napi::CallbackInfo& info);

}  // namespace iospace
