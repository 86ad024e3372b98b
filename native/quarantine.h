/// Address ranges whose mappings have ended, kept from reuse for a while.
///
/// Node's thread pool may still hold an address into a freed buffer (an fs.read in flight). While the range
/// is here, no other mapping can take its place. Shared by all threads, as the address space is.
#pragma once

#include "syscall.h"

namespace iospace::quarantine {

/// Takes `range` in. What is mapped there is gone on return; the oldest ranges are given back to the system
/// once there are too many, or, on 32-bit machines, at once.
void Put(Range range) noexcept;

/// As syscall::Map; where there is no room left, without the ranges kept here.
Result<Range> Map(int fd, std::size_t length, int protection, int flags, off_t offset);
/// As syscall::AttachSegment; likewise.
Result<Attachment> AttachSegment(int id, int flags);

}  // namespace iospace::quarantine
