/// The C library's numbers under their own names.
#pragma once

#include <napi.h>

namespace iospace {

Napi::Object Constants(Napi::Env env);

}  // namespace iospace
