/// Descriptors: opening, closing, sizing, waiting, and the ioctls of any device.
#pragma once

#include <napi.h>

namespace iospace {

void DefineFiles(Napi::Object exports);

}  // namespace iospace
