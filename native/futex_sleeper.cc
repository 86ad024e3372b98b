#include "futex_sleeper.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

namespace iospace::sleeper {
namespace {

constexpr std::int64_t kNever = INT64_MAX;

/// Of one futex_waitv(): all words but the sleeper's own.
constexpr std::size_t kMostWaits = syscall::kMostFutexWords - 1;

/// Where each wait has a thread.
constexpr std::size_t kMostThreads = 16;

/// How long such a thread sleeps until it sees that it should not: nothing else ends its sleep.
constexpr std::int64_t kLongestNap = 100'000'000;

/// Blocks all signals, which are for the threads of JavaScript, in those that are made meanwhile.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;
  ~NoSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

class Sleeper {
 public:
  Sleeper() : has_wait_many_(syscall::HasFutexWaitMany()) {}
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  /// Comes after all clients have left.
  ~Sleeper() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      Change();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  Status Add(Client& client, const Request& request) {
    const std::lock_guard lock(mutex_);
    if (waits_.size() >= (has_wait_many_ ? kMostWaits : kMostThreads)) return Failure{EAGAIN, "futex_waitv"};
    // The threads must not run out of memory.
    client.ended_.reserve(client.ended_.size() + client.waits_ + 1);
    if (threads_.size() < (has_wait_many_ ? 1 : waits_.size() + 1)) {
      if (const Status failure = StartThread()) return failure;
    }
    // In front: see SleepInAll().
    waits_.push_front({&client, request, false, false});
    ++client.waits_;
    Change();
    return std::nullopt;
  }

  void Cancel(const Client& client, std::uint32_t id) {
    const std::lock_guard lock(mutex_);
    for (Wait& wait : waits_) {
      if (wait.client == &client && wait.request.id == id) wait.cancelled = true;
    }
    Change();
  }

  std::vector<Ended> Collect(Client& client) {
    std::vector<Ended> none;
    const std::lock_guard lock(mutex_);
    none.reserve(client.waits_);
    std::swap(none, client.ended_);
    return none;
  }

  void Leave(const Client& client) {
    const std::lock_guard lock(mutex_);
    for (Wait& wait : waits_) {
      if (wait.client == &client) wait.client = nullptr;
    }
    Change();
  }

 private:
  /// Erased by its thread alone, and only while that is awake: what the kernel says of it is never lost.
  struct Wait {
    Client* client;  ///< Null once it has left.
    Request request;
    bool cancelled;
    bool is_taken;  ///< By a thread of its own.
  };
  using Place = std::list<Wait>::iterator;

  Status StartThread() {
    const NoSignals no_signals;
    try {
      threads_.emplace_back(has_wait_many_ ? &Sleeper::SleepInAll : &Sleeper::SleepInOne, this);
    } catch (const std::system_error& error) {
      return Failure{error.code().value(), "pthread_create"};
    }
    ::pthread_setname_np(threads_.back().native_handle(), "iospace-futex");
    return std::nullopt;
  }

  /// Has the threads look at the list again.
  void Change() {
    ++changes_;
    if (has_wait_many_) static_cast<void>(syscall::FutexWake(&changes_, 1));
    changed_.notify_all();
  }

  void End(Place place, int outcome) {
    const Wait wait = *place;
    waits_.erase(place);
    if (wait.client == nullptr) return;
    --wait.client->waits_;
    wait.client->ended_.push_back({wait.request.id, outcome});
    wait.client->Notify();
  }

  /// Ends a wait that is over without the kernel's saying so.
  bool EndIfOver(Place place, std::int64_t now) {
    const bool is_late = place->request.deadline <= now;
    if (place->client != nullptr && !place->cancelled && !is_late) return false;
    End(place, place->cancelled ? kCancelled : kTimedOut);
    return true;
  }

  /// Ends a wait if its word has changed, or is none any more.
  bool EndIfChanged(Place place) {
    const auto slept = syscall::FutexWait(place->request.word, place->request.expected, 0);
    if (const auto* failure = std::get_if<Failure>(&slept)) {
      End(place, -failure->error);
      return true;
    }
    if (std::get<syscall::Slept>(slept) == syscall::Slept::kTimedOut) return false;
    End(place, kWoken);
    return true;
  }

  void SleepInAll() {
    std::array<syscall::FutexWord, syscall::kMostFutexWords> words;
    std::array<Place, syscall::kMostFutexWords> places;
    std::unique_lock lock(mutex_);
    for (;;) {
      const std::int64_t now = syscall::Now();
      for (auto place = waits_.begin(); place != waits_.end();) EndIfOver(place++, now);
      if (stopping_) return;

      const std::uint32_t changes = changes_;
      std::int64_t deadline = kNever;
      std::size_t count = 0;
      words[count++] = {&changes_, changes};
      for (auto place = waits_.begin(); place != waits_.end(); ++place) {
        places[count] = place;
        words[count++] = {place->request.word, place->request.expected};
        deadline = std::min(deadline, place->request.deadline);
      }
      lock.unlock();
      const auto slept = syscall::FutexWaitMany(std::span(words).first(count), deadline);
      lock.lock();

      if (const auto* index = std::get_if<std::size_t>(&slept)) {
        // The kernel names the last of those that it has woken, so any before it may have been, too. They are
        // few: whoever waits again after a wake comes to the front.
        for (std::size_t i = 1; i <= *index; ++i) End(places[i], kWoken);
        continue;
      }
      const int error = std::get<Failure>(slept).error;
      if (error == ETIMEDOUT || error == EINTR || changes != changes_) continue;
      // The kernel does not say which word it is.
      bool found = false;
      for (std::size_t i = 1; i < count; ++i) found = EndIfChanged(places[i]) || found;
      if (found || error == EAGAIN) continue;
      // It had no memory.
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::nanoseconds(kLongestNap));
      lock.lock();
    }
  }

  void SleepInOne() {
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto place =
          std::find_if(waits_.begin(), waits_.end(), [](const Wait& w) { return !w.is_taken; });
      if (place == waits_.end()) {
        if (stopping_) return;
        changed_.wait(lock);
        continue;
      }
      place->is_taken = true;
      for (;;) {
        const std::int64_t now = syscall::Now();
        if (EndIfOver(place, now)) break;
        const Request request = place->request;
        lock.unlock();
        const auto slept =
            syscall::FutexWait(request.word, request.expected, std::min(kLongestNap, request.deadline - now));
        lock.lock();
        if (const auto* failure = std::get_if<Failure>(&slept)) {
          End(place, -failure->error);
          break;
        }
        if (std::get<syscall::Slept>(slept) != syscall::Slept::kTimedOut) {
          End(place, kWoken);
          break;
        }
      }
    }
  }

  const bool has_wait_many_;
  std::mutex mutex_;
  std::condition_variable changed_;
  /// The word by which the one thread learns that the list has changed.
  std::uint32_t changes_ = 0;
  bool stopping_ = false;
  std::list<Wait> waits_;
  std::vector<std::thread> threads_;
};

namespace {

// Process-wide. Never destroyed: at exit() the threads may still sleep.
constinit std::mutex clients_mutex;
constinit std::size_t clients = 0;
constinit Sleeper* sleeper = nullptr;

}  // namespace

void Join(Client&) {
  const std::lock_guard lock(clients_mutex);
  if (sleeper == nullptr) sleeper = new Sleeper;
  ++clients;
}

// A client that has joined keeps the sleeper.

Status Add(Client& client, const Request& request) {
  return sleeper->Add(client, request);
}

void Cancel(Client& client, std::uint32_t id) {
  sleeper->Cancel(client, id);
}

std::vector<Ended> Collect(Client& client) {
  return sleeper->Collect(client);
}

void Leave(Client& client) {
  const std::lock_guard lock(clients_mutex);
  sleeper->Leave(client);
  if (--clients > 0) return;
  delete sleeper;
  sleeper = nullptr;
}

}  // namespace iospace::sleeper
