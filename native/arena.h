/// The JavaScript object over one attachment to an arena of blocks: plain functions, each one call of
/// SharedArena.
///
/// Functions of the object and not methods of a class: they need no receiver, whose unwrapping would cost as
/// much as an allocation. Those of the fast path use Node-API as it is in C, take numbers, give a number, and
/// leave what else there is to say in `answer`.
///
/// The functions share the attachment. It ends with close(), with the last of them, or with the environment.
#pragma once

#include <napi.h>

namespace iospace {

/// Exports createArena() and attachArena().
void DefineArena(Napi::Object exports);

}  // namespace iospace
