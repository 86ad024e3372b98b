/// The calls of iospace.ko, each a structure of kernel-module/uapi/iospace.h filled in and read out.
#pragma once

#include <napi.h>

namespace iospace {

void DefineDevice(Napi::Object exports);

}  // namespace iospace
