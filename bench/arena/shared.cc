/// An arena in a file, with its lock and its records: what pairs cost, what two processes get done, how long
/// the death of who has the lock holds others up, and how much memory the books take. JSON lines.
///
///     arena-shared-bench SEED PAIRS MEBIBYTES...
///
/// PAIRS is how many are timed; the sizes are those of the arenas. Beside it lies arena-holder.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "arena_shared.h"
#include "workload.h"

namespace {

using iospace::arena::Code;
using iospace::arena::Creation;
using iospace::arena::Kind;
using iospace::arena::Outcome;
using iospace::arena::SharedArena;

/// Ends the program. What is missing is a line, which is found.
[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  ::_exit(1);
}

std::unique_ptr<SharedArena> Own(SharedArena::Attachment attachment) {
  auto* const arena = std::get_if<std::unique_ptr<SharedArena>>(&attachment);
  if (arena == nullptr) {
    errno = std::get<iospace::arena::Refusal>(attachment).error;
    Fail("arena");
  }
  return std::move(*arena);
}

/// An arena in a file without a name. No page of its memory is ever touched.
class Shared {
 public:
  explicit Shared(std::uint32_t granules) : fd_(::memfd_create("bench", MFD_ALLOW_SEALING)) {
    if (fd_ < 0) Fail("memfd_create");
    Creation creation;
    creation.shape = {4096, granules};
    creation.memory_bytes = std::uint64_t{granules} * 4096;
    creation.kind = Kind::kMemfd;
    creation.reclaims = true;
    creation.allocate = false;
    arena_ = Own(SharedArena::Create(fd_, creation));
  }
  /// Another attachment to the same.
  explicit Shared(int fd) : fd_(::dup(fd)), arena_(Own(SharedArena::Attach(fd))) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::close(fd_); }

  int fd() const { return fd_; }

  std::uint32_t Allocate(std::uint32_t length) {
    const Outcome outcome = arena_->Allocate({length}, 0);
    return outcome.code == Code::kDone ? static_cast<std::uint32_t>(outcome.start) : kNone;
  }
  void Free(std::uint32_t start, std::uint32_t) { arena_->Free(start, 0, false); }

  bool IsSound() { return arena_->Check().is_sound(); }

  /// Bytes that the file has of memory.
  std::uint64_t Bytes() const {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) Fail("fstat");
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }

 private:
  int fd_;
  std::unique_ptr<SharedArena> arena_;
};

constexpr std::size_t kWindows = 16;
constexpr std::size_t kProcesses = 2;

/// What a process got done in one window of time.
struct Window {
  double rate;    ///< Pairs in a nanosecond.
  double waited;  ///< The share of the time in which it could have run, and had no processor.
};

/// What the processes of a measurement share.
struct Board {
  std::atomic<int> ready;
  std::atomic<double> begin;
  std::atomic<double> done;
  std::array<std::array<Window, kProcesses>, kWindows> windows;
};

class SharedBoard {
 public:
  SharedBoard()
      : board_(::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (board_ == MAP_FAILED) Fail("mmap");
    new (board_) Board{};
  }
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  ~SharedBoard() { ::munmap(board_, sizeof(Board)); }
  Board* operator->() const { return static_cast<Board*>(board_); }

 private:
  void* board_;
};

void Rest(double milliseconds) {
  const timespec time{0, static_cast<long>(milliseconds * 1e6)};
  ::nanosleep(&time, nullptr);
}

/// Runs a function in a process of its own, which ends with it, and with this one.
template <typename Work>
pid_t Fork(Work work) {
  const pid_t child = ::fork();
  if (child < 0) Fail("fork");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    work();
    ::_exit(0);
  }
  return child;
}

void Wait(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) Fail("waitpid");
}

/// Nanoseconds for which this process had to wait for a processor; 0 where the kernel does not say.
double Waited() {
  std::array<char, 128> text{};
  const int fd = ::open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t length = ::read(fd, text.data(), text.size() - 1);
  ::close(fd);
  if (length <= 0) return 0;
  char* second = nullptr;
  static_cast<void>(std::strtod(text.data(), &second));
  return std::strtod(second, nullptr);
}

void RestUntil(double time) {
  while (WallTime() < time - 2e5) Rest(0.05);
  while (WallTime() < time) {
  }
}

/// Steps for a time.
Window Step(Tenant<Shared>& tenant, double begin, double length) {
  RestUntil(begin);
  const double waited = Waited();
  const double started = WallTime();
  std::uint64_t steps = 0;
  double now = 0;
  do {
    for (int i = 0; i < 64; ++i) tenant.Step();
    steps += 64;
    now = WallTime();
  } while (now < begin + length);
  // Late is who had to wait before it could begin.
  return {static_cast<double>(steps) / (now - started), (Waited() - waited + started - begin) / length};
}

/// One process or two, each with its part of the workload, in windows of time: the median of what they get
/// done together in those in which none had to wait for a processor.
void Hammer(const Workload& workload, unsigned seed, std::uint64_t pairs, std::size_t processes) {
  const Shared arena(workload.granules());
  const SharedBoard board;
  // So many pairs in all windows, or thereabouts.
  const double length = static_cast<double>(pairs) * 200 / kWindows;
  std::array<pid_t, kProcesses> children{};
  for (std::size_t i = 0; i < processes; ++i) {
    children[i] = Fork([&] {
      Shared mine(arena.fd());
      Tenant<Shared> tenant(mine, workload, seed + static_cast<unsigned>(i),
                            1.0 / static_cast<double>(processes));
      tenant.Settle(pairs);
      ++board->ready;
      while (board->begin == 0) Rest(0.1);
      for (std::size_t window = 0; window < kWindows; ++window) {
        board->windows[window][i] =
            Step(tenant, board->begin + static_cast<double>(window) * 2 * length, length);
      }
    });
  }
  while (static_cast<std::size_t>(board->ready) < processes) Rest(0.1);
  board->begin = WallTime() + 1e6;
  for (std::size_t i = 0; i < processes; ++i) Wait(children[i]);

  std::vector<double> rates;
  constexpr double kLittle = 0.05;
  for (double most = kLittle; rates.empty(); most *= 2) {
    for (const auto& window : board->windows) {
      if (window[0].waited <= most && window[1].waited <= most)
        rates.push_back(window[0].rate + window[1].rate);
    }
  }
  std::nth_element(rates.begin(), rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2), rates.end());
  static_cast<void>(std::printf("{\"of\":\"%s\",\"in\":\"%s\",\"pair\":%.1f,\"windows\":%zu}\n",
                                processes == 1 ? "one process" : "two processes", workload.name,
                                1 / rates[rates.size() / 2], rates.size()));
  static_cast<void>(std::fflush(stdout));
}

/// A process stops in the middle of an allocation, another waits for the lock, the first is killed. The other
/// has seen all of the books before, or attaches only then.
void Kill(const char* program, const Shared& arena, const Workload& workload, bool is_new) {
  const SharedBoard board;
  const pid_t survivor = Fork([&] {
    std::unique_ptr<Shared> mine;
    if (!is_new) {
      mine = std::make_unique<Shared>(arena.fd());
      if (!mine->IsSound()) Fail("books");
    }
    ++board->ready;
    while (board->begin == 0) Rest(0.1);
    ++board->ready;
    if (is_new) mine = std::make_unique<Shared>(arena.fd());
    if (mine->Allocate(16) == kNone) Fail("allocation");
    board->done = WallTime();
  });
  while (board->ready < 1) Rest(0.1);

  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) Fail("pipe");
  const std::string fd = std::to_string(arena.fd());
  const std::string ready = std::to_string(ends[1]);
  const pid_t holder = Fork([&] {
    ::execl(program, program, fd.c_str(), ready.c_str(), static_cast<char*>(nullptr));
    Fail(program);
  });
  ::close(ends[1]);
  char byte = 0;
  if (::read(ends[0], &byte, 1) != 1) Fail(program);
  ::close(ends[0]);

  board->begin = WallTime();
  while (board->ready < 2) Rest(0.1);
  Rest(20);
  if (board->done != 0) Fail("the lock was free");
  const double killed = WallTime();
  ::kill(holder, SIGKILL);
  Wait(holder);
  Wait(survivor);
  if (board->done == 0) Fail("no allocation");
  static_cast<void>(std::printf("{\"of\":\"%s\",\"in\":\"%s\",\"milliseconds\":%.3f}\n",
                                is_new ? "killed, attached then" : "killed", workload.name,
                                (board->done - killed) / 1e6));
  static_cast<void>(std::fflush(stdout));
}

int Run(std::span<char*> arguments) {
  if (arguments.size() < 4) return 2;
  const auto seed = static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10));
  const std::uint64_t some = std::strtoull(arguments[2], nullptr, 10);
  const std::string own = arguments[0];
  const std::string holder = own.substr(0, own.rfind('/') + 1) + "arena-holder";
  for (const char* const size : arguments.subspan(3)) {
    const std::uint64_t mebibytes = std::strtoull(size, nullptr, 10);
    const std::string name =
        mebibytes < 1024 ? std::string(size) + " MiB" : std::to_string(mebibytes / 1024) + " GiB";
    const Workload workload{name.c_str(), mebibytes, 0.70, 1, 64, false, false};
    {
      Shared arena(workload.granules());
      const std::uint64_t empty = arena.Bytes();
      Measure("shared", arena, workload, seed, mebibytes > 1024 ? some * 3 : some);
      static_cast<void>(std::printf(
          "{\"of\":\"books\",\"in\":\"%s\",\"empty\":%llu,\"bytes\":%llu,\"arena\":%llu}\n", workload.name,
          static_cast<unsigned long long>(empty), static_cast<unsigned long long>(arena.Bytes()),
          static_cast<unsigned long long>(mebibytes) << 20));
      for (const bool is_new : {false, true}) Kill(holder.c_str(), arena, workload, is_new);
      if (!arena.IsSound()) Fail("books after repairs");
    }
    for (const std::size_t processes : {1, 2}) Hammer(workload, seed, some, processes);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(std::span<char*>(argv, static_cast<std::size_t>(argc)));
  } catch (const std::exception& error) {
    static_cast<void>(std::fprintf(stderr, "%s\n", error.what()));
    return 1;
  }
}
