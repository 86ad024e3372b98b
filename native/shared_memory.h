/// Files that are memory: POSIX shared memory by name, memfd without one.
#pragma once

#include <napi.h>

namespace iospace {

void DefineSharedMemory(Napi::Object exports);

}  // namespace iospace
