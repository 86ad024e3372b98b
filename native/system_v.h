/// Shared memory of System V: segments, which have a number of the system's and a key of their users'.
///
/// What attaches a segment is in mapping.h: it is a mapping like every other.
#pragma once

#include <napi.h>

namespace iospace {

void DefineSystemV(Napi::Object exports);

}  // namespace iospace
