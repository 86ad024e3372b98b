#include "constants.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

namespace iospace {
namespace {

struct Constant {
  const char* name;
  std::uint32_t value;
};

// clang-format off
#define CONSTANT(name) Constant { #name, static_cast<std::uint32_t>(name) }

// MAP_FIXED and the like are missing: mmap() refuses them.
constexpr Constant kConstants[] = {
    CONSTANT(PROT_NONE),
    CONSTANT(PROT_READ),
    CONSTANT(PROT_WRITE),
    CONSTANT(PROT_EXEC),

    CONSTANT(MAP_SHARED),
    CONSTANT(MAP_SHARED_VALIDATE),
    CONSTANT(MAP_PRIVATE),
    CONSTANT(MAP_ANONYMOUS),
    CONSTANT(MAP_LOCKED),
    CONSTANT(MAP_NORESERVE),
    CONSTANT(MAP_POPULATE),
    CONSTANT(MAP_NONBLOCK),
    CONSTANT(MAP_SYNC),

    CONSTANT(MS_ASYNC),
    CONSTANT(MS_INVALIDATE),
    CONSTANT(MS_SYNC),

    CONSTANT(MADV_NORMAL),
    CONSTANT(MADV_RANDOM),
    CONSTANT(MADV_SEQUENTIAL),
    CONSTANT(MADV_WILLNEED),
    CONSTANT(MADV_DONTNEED),
    CONSTANT(MADV_FREE),
    CONSTANT(MADV_REMOVE),
    CONSTANT(MADV_DONTFORK),
    CONSTANT(MADV_DOFORK),
    CONSTANT(MADV_MERGEABLE),
    CONSTANT(MADV_UNMERGEABLE),
    CONSTANT(MADV_HUGEPAGE),
    CONSTANT(MADV_NOHUGEPAGE),
    CONSTANT(MADV_DONTDUMP),
    CONSTANT(MADV_DODUMP),
    CONSTANT(MADV_WIPEONFORK),
    CONSTANT(MADV_KEEPONFORK),
    CONSTANT(MADV_COLD),
    CONSTANT(MADV_PAGEOUT),

    CONSTANT(POLLIN),
    CONSTANT(POLLPRI),
    CONSTANT(POLLOUT),
    CONSTANT(POLLERR),
    CONSTANT(POLLHUP),
    CONSTANT(POLLNVAL),

    CONSTANT(O_RDONLY),
    CONSTANT(O_WRONLY),
    CONSTANT(O_RDWR),
    CONSTANT(O_CREAT),
    CONSTANT(O_EXCL),
    CONSTANT(O_TRUNC),
    CONSTANT(O_APPEND),
    CONSTANT(O_NONBLOCK),
    CONSTANT(O_SYNC),
    CONSTANT(O_DSYNC),
    CONSTANT(O_DIRECT),
    CONSTANT(O_DIRECTORY),
    CONSTANT(O_NOFOLLOW),
    CONSTANT(O_NOCTTY),
    CONSTANT(O_CLOEXEC),
    CONSTANT(O_PATH),
    CONSTANT(O_TMPFILE),

    CONSTANT(MFD_CLOEXEC),
    CONSTANT(MFD_ALLOW_SEALING),
    CONSTANT(MFD_HUGETLB),

    CONSTANT(F_SEAL_SEAL),
    CONSTANT(F_SEAL_SHRINK),
    CONSTANT(F_SEAL_GROW),
    CONSTANT(F_SEAL_WRITE),
    CONSTANT(F_SEAL_FUTURE_WRITE),

    CONSTANT(EFD_CLOEXEC),
    CONSTANT(EFD_NONBLOCK),
    CONSTANT(EFD_SEMAPHORE),
};

#undef CONSTANT
// clang-format on

}  // namespace

Napi::Object Constants(Napi::Env env) {
  Napi::Object constants = Napi::Object::New(env);
  for (const auto& [name, value] : kConstants) constants.Set(name, Napi::Number::New(env, value));
  constants.Freeze();
  return constants;
}

}  // namespace iospace
