/// Files that are memory: POSIX shared memory by name, which may end with the process; memfd without one,
/// which can be sealed.
#pragma once

#include <napi.h>

namespace iospace {

void DefineSharedMemory(Napi::Object exports);

}  // namespace iospace
