/// The kernels of each instruction set, for the choice among them in copy.cc.
#pragma once

#include "copy.h"

namespace iospace::copy {

extern const Kernels kPortable;

/// Those that this processor has, the best first; none for an architecture without any.
std::span<const Kernels> OfProcessor();

}  // namespace iospace::copy
