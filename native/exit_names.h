/// The names of files that end with this process: removed at its end, also where a signal ends it.
///
/// One list for the process. A name is removed only while it still stands for the file that it stood for when
/// it was added. No JavaScript: a signal may come while that is busy, and must end the process all the same.
#pragma once

#include <string>

#include "syscall.h"

namespace iospace::exit_names {

/// Adds the name `path` of an open file, or changes which file it stands for.
Status Add(const std::string& path, int fd);
/// Takes a name off the list. It need not be there.
void Forget(const std::string& path);
/// Removes all of the files now.
void Remove() noexcept;

/// Has `signal` remove the files before it does what it does now. Not where it is ignored. May be called
/// again whenever something else has taken the signal and left it.
Status Guard(int signal);

}  // namespace iospace::exit_names
