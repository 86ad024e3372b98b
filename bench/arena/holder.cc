/// A process that stops in the middle of an allocation, with the lock of the arena: the one that is killed.
///
///     arena-holder ARENA READY
///
/// Both are descriptors. It writes a byte to the second when it has come so far. The benchmark itself cannot
/// do this: it is not built with what calls BeforeWrite().
#include <unistd.h>

#include <cstdlib>
#include <span>

#include "arena_shared.h"

namespace {

using iospace::arena::Code;
using iospace::arena::SharedArena;

/// So many more writes; -1 while none is counted.
int left = -1;
int ready = -1;

}  // namespace

void BeforeWrite();
void BeforeWrite() {
  if (left < 0 || left-- > 0) return;
  const char byte = 1;
  if (::write(ready, &byte, 1) != 1) std::abort();
  for (;;) ::pause();
}

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  if (arguments.size() != 3) return 2;
  ready = static_cast<int>(std::strtol(arguments[2], nullptr, 10));
  const auto attached = SharedArena::Attach(static_cast<int>(std::strtol(arguments[1], nullptr, 10)));
  const auto* const arena = std::get_if<std::unique_ptr<SharedArena>>(&attached);
  if (arena == nullptr) return 1;
  // In the books of the second: what is written before the lock is had is written by the first.
  for (const int writes : {-1, 4}) {
    left = writes;
    if ((*arena)->Allocate({8}, 0).code != Code::kDone) return 1;
  }
  return 1;
}
