/// What JavaScript calls of cache.h and copy.h. By Node-API itself: the call would take longer than a line.
#pragma once

#include <napi.h>

namespace iospace {

/// Exports cacheInstructions(), cleanCache(), invalidateCache(), flushCache(), copyBytes(), fillBytes(),
/// compareBytes(), isDetached().
void DefineCache(Napi::Object exports);

}  // namespace iospace
