#include "exit_names.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <forward_list>

namespace iospace::exit_names {
namespace {

struct Name {
  std::string path;
  dev_t device;
  ino_t inode;
};

/// What a guarded signal did before, by its number.
constexpr int kSignals[] = {SIGHUP, SIGINT, SIGTERM};
struct sigaction before[std::size(kSignals)];

sigset_t GuardedSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : kSignals) ::sigaddset(&signals, signal);
  return signals;
}

std::forward_list<Name>& Names() {
  // Never destroyed: a signal may come after static destructors.
  static auto& names = *new std::forward_list<Name>;
  return names;
}

/// Whether there has been any name: most processes never have one, and unlink many.
constinit std::atomic<bool> used = false;

/// A lock that a signal handler may take: whoever holds it cannot be interrupted by one, so that it is never
/// waited for by the thread that has it.
class Lock {
 public:
  Lock() noexcept {
    const sigset_t signals = GuardedSignals();
    ::pthread_sigmask(SIG_BLOCK, &signals, &mask_);
    while (taken.test_and_set(std::memory_order_acquire)) {
    }
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    taken.clear(std::memory_order_release);
    ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }

 private:
  static constinit std::atomic_flag taken;
  sigset_t mask_;
};
constinit std::atomic_flag Lock::taken;

void OnSignal(int signal) {
  Remove();
  const auto* const found = std::find(std::begin(kSignals), std::end(kSignals), signal);
  ::sigaction(signal, &before[found - kSignals], nullptr);
  // It comes when this function has returned.
  static_cast<void>(::raise(signal));
}

}  // namespace

Status Add(const std::string& path, int fd) {
  struct stat status;
  if (::fstat(fd, &status) == -1) return Failure{errno, "fstat"};
  // Allocated before the lock is taken: it may fail.
  std::forward_list<Name> added;
  added.push_front({path, status.st_dev, status.st_ino});
  used = true;
  const Lock lock;
  Names().remove_if([&](const Name& name) { return name.path == path; });
  Names().splice_after(Names().before_begin(), added);
  return std::nullopt;
}

void Forget(const std::string& path) {
  if (!used) return;
  const Lock lock;
  Names().remove_if([&](const Name& name) { return name.path == path; });
}

void Remove() noexcept {
  // Only what a signal handler may call.
  const Lock lock;
  for (const Name& name : Names()) {
    struct stat status;
    if (::lstat(name.path.c_str(), &status) == 0 && status.st_dev == name.device &&
        status.st_ino == name.inode)
      ::unlink(name.path.c_str());
  }
}

Status Guard(int signal) {
  const auto* const found = std::find(std::begin(kSignals), std::end(kSignals), signal);
  if (found == std::end(kSignals)) return Failure{EINVAL, "sigaction"};
  // Made before a signal needs it.
  Names();
  struct sigaction now;
  if (::sigaction(signal, nullptr, &now) == -1) return Failure{errno, "sigaction"};
  if (now.sa_handler == SIG_IGN || now.sa_handler == OnSignal) return std::nullopt;

  before[found - kSignals] = now;
  struct sigaction guard = {};
  guard.sa_handler = OnSignal;
  guard.sa_mask = GuardedSignals();
  guard.sa_flags = SA_RESTART | SA_ONSTACK;
  if (::sigaction(signal, &guard, nullptr) == -1) return Failure{errno, "sigaction"};
  return std::nullopt;
}

}  // namespace iospace::exit_names
