/// The threads of this process that sleep for those who must not: waits on words that other processes wake.
///
/// From Linux 5.16 on it is one thread, which sleeps on all words at once. On older kernels each wait has a
/// thread, and their number is bounded. The threads begin with the first wait, and have ended when the last
/// client has left: the library may be unloaded then. None of them reads a word, which may be unmapped at any
/// time; the kernel alone does. None of them takes signals.
///
/// A wait that the kernel may have woken ends as woken, even where it was cancelled or late, so that no wake
/// of a client is lost. So a wait may end as woken for no reason, and who waited looks at the word. A wake
/// that comes just when its client leaves is lost, as one of a process that dies: the memory may be gone by
/// then.
///
/// Knows nothing of JavaScript. All functions may be called by any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "syscall.h"

namespace iospace::sleeper {

// How a wait ends, beside a negative errno (EFAULT: the word is not mapped). Known to lib/shm/futex.ts.
inline constexpr int kWoken = 0;
inline constexpr int kTimedOut = 2;
inline constexpr int kCancelled = 3;

struct Request {
  std::uint32_t id;  ///< The client's own.
  const std::uint32_t* word;
  std::uint32_t expected;
  std::int64_t deadline;  ///< Monotonic, in ns; INT64_MAX for none.
};

struct Ended {
  std::uint32_t id;
  int outcome;
};

/// One who has waits.
class Client {
 public:
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Told, by a thread of the sleeper's, that there is something to Collect(). Must not call the sleeper.
  virtual void Notify() noexcept = 0;

 protected:
  Client() = default;
  ~Client() = default;

 private:
  friend class Sleeper;
  std::vector<Ended> ended_;
  std::size_t waits_ = 0;
};

/// Comes before any other call.
void Join(Client& client);
/// Begins a wait. EAGAIN where there are as many as there can be, or no thread.
Status Add(Client& client, const Request& request);
/// Ends a wait of this client soon, if it has not ended.
void Cancel(Client& client, std::uint32_t id);
/// The waits that have ended since the last call.
std::vector<Ended> Collect(Client& client);
/// Ends all waits of the client, which is not told anything from here on. Of the last client it
/// takes until the threads have ended, at most 100 ms.
void Leave(Client& client);

}  // namespace iospace::sleeper
