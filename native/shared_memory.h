/// Files that are memory: POSIX shared memory by name, memfd without one; seals of these, and the end of
/// those.
#pragma once

#include <napi.h>

namespace iospace {

void DefineSharedMemory(Napi::Object exports);

}  // namespace iospace
