/// An arena that several processes share: against a model, stopped at every write, killed, damaged, and full.
///
///     arena-shared-test SUITE [SEED]
///
/// Compiled together with what it tests, whose every write to shared memory calls BeforeWrite(). Ends with 1
/// and says why at the first difference.
#include "arena_shared.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "support.h"

namespace {

using namespace iospace;
using namespace iospace::arena;
using Attached = std::unique_ptr<SharedArena>;

FileDescriptor NewFile() {
  const int fd = ::memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT(fd >= 0, "errno %d", errno);
  return FileDescriptor(fd);
}

Creation SmallArena(std::uint64_t granules, bool reclaims = true) {
  Creation creation;
  creation.shape = {4096, granules};
  creation.memory_bytes = granules * 4096;
  creation.reclaims = reclaims;
  creation.allocate = false;
  creation.name = "test";
  return creation;
}

Attached Expect(SharedArena::Attachment attachment) {
  if (const auto* refusal = std::get_if<Refusal>(&attachment)) {
    EXPECT(false, "fault %d, errno %d of %s, expected %" PRIx64 ", found %" PRIx64,
           static_cast<int>(refusal->fault), refusal->error, refusal->syscall, refusal->expected,
           refusal->found);
  }
  return std::move(std::get<Attached>(attachment));
}

Fault FaultOf(const SharedArena::Attachment& attachment) {
  const auto* const refusal = std::get_if<Refusal>(&attachment);
  return refusal == nullptr ? Fault::kNone : refusal->fault;
}

void ExpectSound(SharedArena& arena) {
  const Report report = arena.Check();
  EXPECT(report.code == Code::kDone, "code %d", static_cast<int>(report.code));
  EXPECT(report.books.count == 0,
         "%" PRIu64 " differences of books, the first in part %d at %" PRIu64 ": expected %" PRIx64
         ", found %" PRIx64,
         report.books.count, static_cast<int>(report.books.part), report.books.index, report.books.expected,
         report.books.found);
  EXPECT(report.records.count == 0,
         "%" PRIu64 " differences of records, the first in part %d at %" PRIu64 ": expected %" PRIx64
         ", found %" PRIx64,
         report.records.count, static_cast<int>(report.records.part), report.records.index,
         report.records.expected, report.records.found);
}

/// A block without its number, which is a model's key.
struct Known {
  std::uint64_t length;
  std::uint32_t serial;
  std::uint32_t owner;
  std::uint32_t tag;
  bool operator==(const Known&) const = default;
};
using Blocks = std::map<std::uint64_t, Known>;

/// All blocks, asked for in small portions.
Blocks BlocksOf(SharedArena& arena) {
  Blocks blocks;
  std::array<Block, 7> portion{};
  std::uint64_t from = 0;
  for (;;) {
    const std::size_t count = arena.Blocks(from, portion);
    for (std::size_t i = 0; i < count; ++i) {
      const Block& block = portion[i];
      blocks[block.start] = {block.length, block.serial, block.owner, block.tag};
      from = block.start + block.length;
    }
    if (count < portion.size()) return blocks;
  }
}

void Insert(Blocks& blocks, const Outcome& outcome) {
  EXPECT(outcome.serial != 0, "serial");
  const auto next = blocks.lower_bound(outcome.start);
  EXPECT(next == blocks.end() || outcome.start + outcome.length <= next->first, "overlap");
  EXPECT(next == blocks.begin() || std::prev(next)->first + std::prev(next)->second.length <= outcome.start,
         "overlap");
  blocks[outcome.start] = {outcome.length, outcome.serial, outcome.owner, outcome.tag};
}

/// Random calls of several owners, who come and go, compared with a map.
void TestModel(std::uint64_t seed) {
  Random random(seed);
  for (const std::uint64_t granules : {1, 64, 100, 640, 5000, 60000}) {
    const FileDescriptor file = NewFile();
    std::vector<Attached> owners;
    owners.push_back(Expect(SharedArena::Create(file.get(), SmallArena(granules, granules % 2 == 0))));
    const bool reclaims = owners[0]->description().reclaims;
    EXPECT(FaultOf(SharedArena::Create(file.get(), SmallArena(granules))) == Fault::kExists, "created twice");
    Blocks model;
    std::uint64_t tags = 0;
    const auto drop_dead = [&] {
      std::erase_if(model, [&](const auto& entry) {
        return std::none_of(owners.begin(), owners.end(),
                            [&](const Attached& owner) { return owner->owner() == entry.second.owner; });
      });
    };
    const int calls = 4000;
    for (int call = 0; call < calls; ++call) {
      const std::uint64_t kind = Below(random, 100);
      SharedArena& arena = *owners[Below(random, owners.size())];
      const std::uint64_t longest = std::max<std::uint64_t>(1, std::min<std::uint64_t>(40, granules / 8));
      if (kind < (call / 500 % 2 == 0 ? 60U : 35U) || model.empty()) {
        const auto tag = static_cast<std::uint32_t>(Below(random, tags + 1));
        const Outcome outcome = arena.Allocate({1 + Below(random, longest)}, tag);
        if (outcome.code == Code::kNoSpace) {
          std::uint64_t used = 0;
          if (reclaims) drop_dead();
          for (const auto& [start, block] : model) used += block.length;
          EXPECT(outcome.free == granules - used && outcome.longest <= outcome.free,
                 "seed %" PRIu64 " call %d: %" PRIu64 " free, %" PRIu64 " used", seed, call, outcome.free,
                 used);
          continue;
        }
        EXPECT(outcome.code == Code::kDone && outcome.owner == arena.owner() && outcome.tag == tag,
               "seed %" PRIu64 " call %d: code %d", seed, call, static_cast<int>(outcome.code));
        // It may have swept before.
        if (reclaims && BlocksOf(arena).size() != model.size() + 1) drop_dead();
        Insert(model, outcome);
      } else if (kind < 92) {
        auto found = model.lower_bound(Below(random, granules));
        if (found == model.end()) found = model.begin();
        const auto [start, block] = *found;
        const Outcome at = arena.BlockAt(start + Below(random, block.length));
        EXPECT(at.code == Code::kDone && at.start == start && at.length == block.length &&
                   at.serial == block.serial && at.owner == block.owner && at.tag == block.tag,
               "call %d", call);
        if (block.length > 1) {
          const Outcome inside = arena.Free(start + 1, block.serial, true);
          EXPECT(inside.code == Code::kInside && inside.start == start, "code %d",
                 static_cast<int>(inside.code));
        }
        const Outcome stale = arena.Free(start, block.serial + 1, true);
        EXPECT(stale.code == Code::kStale && stale.serial == block.serial, "code %d",
               static_cast<int>(stale.code));
        const bool is_own = block.owner == arena.owner();
        if (!is_own) {
          const Outcome other = arena.Free(start, 0, false);
          EXPECT(other.code == Code::kOtherOwner && other.owner == block.owner, "code %d",
                 static_cast<int>(other.code));
        }
        const Outcome freed = arena.Free(start, Below(random, 2) == 0 ? 0 : block.serial, !is_own);
        EXPECT(freed.code == Code::kDone && freed.length == block.length, "code %d",
               static_cast<int>(freed.code));
        model.erase(found);
        const Outcome again = arena.Free(start, block.serial, true);
        EXPECT(again.code == Code::kNotAllocated && again.start <= start &&
                   again.start + again.length >= start + block.length,
               "freed twice: %d", static_cast<int>(again.code));
      } else if (kind < 94) {
        const std::size_t count = 1 + Below(random, 20);
        std::vector<double> starts(count);
        std::vector<double> serials(count);
        const std::size_t before = BlocksOf(arena).size();
        const Outcome outcome = arena.AllocateMany({1 + Below(random, longest)}, 0, starts, serials);
        if (reclaims && BlocksOf(arena).size() != before + (outcome.code == Code::kDone ? count : 0))
          drop_dead();
        for (std::size_t i = 0; outcome.code == Code::kDone && i < count; ++i) {
          const Outcome at = arena.BlockAt(static_cast<std::uint64_t>(starts[i]));
          EXPECT(at.start == static_cast<std::uint64_t>(starts[i]) && at.serial == serials[i] &&
                     at.length == outcome.length,
                 "block %zu", i);
          Insert(model, at);
        }
      } else if (kind < 96 && owners.size() < 6) {
        owners.push_back(Expect(SharedArena::Attach(file.get())));
        const auto number = owners.back()->owner();
        EXPECT(std::none_of(model.begin(), model.end(),
                            [&](const auto& entry) { return entry.second.owner == number; }),
               "owner %u has blocks", number);
      } else if (kind < 97 && owners.size() > 1) {
        std::swap(owners[Below(random, owners.size())], owners.back());
        owners.pop_back();
      } else if (kind < 98) {
        const std::string name = "tag " + std::to_string(Below(random, 20));
        const Outcome outcome = arena.Tag(name);
        tags = std::max<std::uint64_t>(tags, outcome.tag);
        EXPECT(outcome.code == Code::kDone && arena.Tags()[outcome.tag] == name, "tag %u", outcome.tag);
        EXPECT(owners[0]->Tag(name).tag == outcome.tag, "tag %u", outcome.tag);
      } else if (kind < 99) {
        const std::size_t before = model.size();
        drop_dead();
        const Swept swept = arena.Sweep();
        EXPECT(swept.blocks == before - model.size(), "%" PRIu64 " of %zu blocks", swept.blocks,
               before - model.size());
      }
      if (call % 101 == 0) {
        // The one that was called may be gone.
        SharedArena& any = *owners[Below(random, owners.size())];
        ExpectSound(any);
        EXPECT(BlocksOf(any) == model, "seed %" PRIu64 " call %d", seed, call);
        const Measures measures = any.Measure();
        std::map<std::uint32_t, Usage> by_owner;
        std::map<std::uint32_t, Usage> by_tag;
        std::uint64_t used = 0;
        for (const auto& [start, block] : model) {
          used += block.length;
          for (Usage* usage : {&by_owner[block.owner], &by_tag[block.tag]}) {
            ++usage->blocks;
            usage->granules += block.length;
          }
        }
        EXPECT(measures.stats.blocks == model.size() && measures.stats.used == used, "stats");
        for (std::uint32_t i = 0; i < measures.by_owner.size(); ++i) {
          EXPECT(measures.by_owner[i].blocks == by_owner[i].blocks &&
                     measures.by_owner[i].granules == by_owner[i].granules,
                 "owner %u", i);
        }
        for (std::uint32_t i = 0; i < measures.by_tag.size(); ++i) {
          EXPECT(measures.by_tag[i].granules == by_tag[i].granules, "tag %u", i);
        }
        for (const Owner& owner : any.Owners()) {
          EXPECT(owner.blocks == by_owner[owner.number].blocks, "owner %u", owner.number);
          EXPECT(owner.is_alive ==
                     std::any_of(owners.begin(), owners.end(),
                                 [&](const Attached& one) { return one->owner() == owner.number; }),
                 "owner %u is alive: %d", owner.number, static_cast<int>(owner.is_alive));
          EXPECT(
              owner.pid == static_cast<std::uint32_t>(::getpid()) && owner.started > 0 && !owner.name.empty(),
              "owner %u: %s", owner.number, owner.name.c_str());
        }
        std::vector<double> cells(1 + Below(random, 2 * std::min<std::uint64_t>(granules, 200)));
        EXPECT(any.Map(cells) == Code::kDone, "map");
        for (const double cell : cells) EXPECT(cell >= 0 && cell <= 1, "%f", cell);
        if (cells.size() == granules) {
          for (const auto& [start, block] : model) EXPECT(cells[start] == 1, "cell %" PRIu64, start);
        }
      }
    }
  }
}

/// The bytes of a file, for going back to them. Holes that are filled later keep what comes into them:
/// nothing refers to it.
class Image {
 public:
  explicit Image(int fd) : fd_(fd) {
    for (off_t data = 0; (data = ::lseek(fd, data, SEEK_DATA)) >= 0;) {
      const off_t hole = ::lseek(fd, data, SEEK_HOLE);
      std::vector<std::byte> bytes(static_cast<std::size_t>(hole - data));
      EXPECT(::pread(fd, bytes.data(), bytes.size(), data) == static_cast<ssize_t>(bytes.size()), "read");
      parts_.emplace_back(data, std::move(bytes));
      data = hole;
    }
  }
  void Restore() const {
    for (const auto& [offset, bytes] : parts_) {
      EXPECT(::pwrite(fd_, bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size()),
             "write");
    }
  }

 private:
  int fd_;
  std::vector<std::pair<off_t, std::vector<std::byte>>> parts_;
};

/// Whether each of `some` is in `all` as it is.
bool AreIn(const Blocks& some, const Blocks& all) {
  return std::all_of(some.begin(), some.end(), [&](const auto& entry) {
    const auto found = all.find(entry.first);
    return found != all.end() && found->second == entry.second;
  });
}

/// Stops the call before each of its writes, and each repair before each of its own. What a call of several
/// blocks has done before it is stopped may stay.
void ExpectAtomic(int fd, SharedArena& arena, const char* name, bool is_one_block,
                  const std::function<void()>& call) {
  const Image before(fd);
  const Blocks old_blocks = BlocksOf(arena);
  call();
  const Blocks new_blocks = BlocksOf(arena);
  Blocks common;
  for (const auto& entry : new_blocks) {
    if (AreIn({entry}, old_blocks)) common.insert(entry);
  }
  const auto is_old_or_new = [&](const auto& entry) {
    return AreIn({entry}, old_blocks) || AreIn({entry}, new_blocks);
  };
  std::uint64_t writes = 0;
  for (;; ++writes) {
    before.Restore();
    if (Ends(writes, call)) break;
    const Image stopped(fd);
    for (std::uint64_t more = 0;; ++more) {
      stopped.Restore();
      const bool ended = Ends(more, [&] { static_cast<void>(arena.BlockAt(0)); });
      ExpectSound(arena);
      const Blocks blocks = BlocksOf(arena);
      EXPECT(AreIn(common, blocks) && std::all_of(blocks.begin(), blocks.end(), is_old_or_new) &&
                 (!is_one_block || blocks == old_blocks || blocks == new_blocks),
             "%s after %" PRIu64 " writes, repair after %" PRIu64, name, writes, more);
      if (ended) break;
    }
    const Outcome one = arena.Allocate({1}, 0);
    EXPECT(one.code != Code::kDone || arena.Free(one.start, one.serial, false).code == Code::kDone, "%s",
           name);
    ExpectSound(arena);
  }
  EXPECT(writes > 3, "%s: %" PRIu64 " writes", name, writes);
}

void TestStops(std::uint64_t seed) {
  Random random(seed);
  const FileDescriptor file = NewFile();
  const Attached arena = Expect(SharedArena::Create(file.get(), SmallArena(300)));
  Attached other = Expect(SharedArena::Attach(file.get()));
  const auto allocate = [&](const char* name, const Request& request) {
    ExpectAtomic(file.get(), *arena, name, true, [&] { arena->Allocate(request, 0); });
  };
  allocate("the first", {1});
  for (int i = 0; i < 40; ++i) (i % 3 == 0 ? other : arena)->Allocate({1 + Below(random, 5)}, 0);
  for (const auto& [start, block] : BlocksOf(*arena)) {
    if (Below(random, 4) == 0) arena->Free(start, 0, true);
  }
  allocate("some", {1 + Below(random, 5)});
  allocate("many", {100});
  std::array<double, 3> starts{};
  std::array<double, 3> serials{};
  ExpectAtomic(file.get(), *arena, "several", false, [&] { arena->AllocateMany({2}, 0, starts, serials); });
  const Image before(file.get());
  arena->AllocateMany({2}, 0, starts, serials);
  ExpectAtomic(file.get(), *arena, "free several", false, [&] { arena->FreeMany(starts, serials); });
  before.Restore();
  for (const auto& [start, block] : BlocksOf(*arena)) {
    if (Below(random, 4) != 0) continue;
    const std::uint64_t at = start;
    ExpectAtomic(file.get(), *arena, "free", true, [&] { arena->Free(at, 0, true); });
  }
  other.reset();
  const Image dead(file.get());
  ExpectAtomic(file.get(), *arena, "sweep", false, [&] { arena->Sweep(); });
  dead.Restore();
  ExpectAtomic(file.get(), *arena, "an allocation that sweeps", false,
               [&] { arena->Allocate({arena->Measure().stats.longest + 1}, 0); });
  ExpectAtomic(file.get(), *arena, "measure", true, [&] { arena->Measure(); });
  // All freed: each node goes.
  for (const auto& [start, block] : BlocksOf(*arena)) arena->Free(start, 0, true);
  ExpectSound(*arena);

  // Names and owners, which have nothing that a repair changes.
  for (std::uint64_t writes = 0;; ++writes) {
    const std::string name = "tag " + std::to_string(writes);
    const bool ended = Ends(writes, [&] { arena->Tag(name); });
    ExpectSound(*arena);
    const Outcome tag = arena->Tag(name);
    EXPECT(tag.code == Code::kDone && arena->Tags()[tag.tag] == name, "tag %u", tag.tag);
    if (ended) break;
  }
  for (std::uint64_t writes = 0;; ++writes) {
    const bool ended = Ends(writes, [&] { Expect(SharedArena::Attach(file.get())); });
    EXPECT(arena->Owners().size() == 1, "%zu owners", arena->Owners().size());
    ExpectSound(*arena);
    if (ended) break;
  }
  // A file that never became an arena becomes one.
  const FileDescriptor fresh = NewFile();
  for (std::uint64_t writes = 0;; ++writes) {
    if (Ends(writes, [&] { Expect(SharedArena::Create(fresh.get(), SmallArena(300))); })) break;
    const Fault fault = FaultOf(SharedArena::Attach(fresh.get()));
    if (fault == Fault::kNone) break;
    EXPECT(fault == Fault::kMagic, "fault %d", static_cast<int>(fault));
  }
  ExpectSound(*Expect(SharedArena::Attach(fresh.get())));
}

/// Runs this in a process of its own.
pid_t Start(const std::function<void()>& run) {
  const pid_t pid = ::fork();
  EXPECT(pid >= 0, "errno %d", errno);
  if (pid == 0) {
    // Not to be left behind by a test that failed.
    EXPECT(::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "errno %d", errno);
    run();
    std::_Exit(0);
  }
  return pid;
}

int Wait(pid_t pid) {
  int status = 0;
  EXPECT(::waitpid(pid, &status, 0) == pid, "errno %d", errno);
  return status;
}

void Die() {
  ::kill(::getpid(), SIGKILL);
}

/// Processes that are killed before each write of a call, most of them with the lock.
void TestHolder(std::uint64_t) {
  const FileDescriptor file = NewFile();
  const Attached arena = Expect(SharedArena::Create(file.get(), SmallArena(300, false)));
  const Outcome own = arena->Allocate({3}, 0);
  const Blocks before = BlocksOf(*arena);
  const std::vector<std::function<void(SharedArena&)>> calls = {
      [](SharedArena& mine) { mine.Allocate({70}, 0); },
      [&](SharedArena& mine) { mine.Free(own.start, own.serial, true); },
      [](SharedArena& mine) { mine.Sweep(); },
  };
  for (const auto& call : calls) {
    for (std::uint64_t writes = 0;; ++writes) {
      const Image image(file.get());
      const int status = Wait(Start([&] {
        const Attached mine = Expect(SharedArena::Attach(file.get()));
        stop = Die;
        writes_left = writes;
        call(*mine);
        writes_left = kNever;
      }));
      EXPECT(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "status %x", status);
      ExpectSound(*arena);
      const Swept swept = arena->Sweep();
      EXPECT(swept.code == Code::kDone, "sweep");
      const Blocks blocks = BlocksOf(*arena);
      EXPECT(blocks == before || blocks.empty(), "%zu blocks", blocks.size());
      if (blocks.empty()) image.Restore();
      EXPECT(BlocksOf(*arena) == before, "restored");
      if (WIFEXITED(status)) break;
      EXPECT(WTERMSIG(status) == SIGKILL, "status %x", status);
    }
  }
  EXPECT(arena->Owners().size() == 1, "%zu owners", arena->Owners().size());
}

/// What one process waits for, and another does.
class Event {
 public:
  Event() { EXPECT(::pipe2(fds_.data(), O_CLOEXEC) == 0, "errno %d", errno); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() {
    for (const int fd : fds_) ::close(fd);
  }

  void Happen() const { EXPECT(::write(fds_[1], "x", 1) == 1, "errno %d", errno); }
  bool Happens(int milliseconds) const {
    pollfd one = {fds_[0], POLLIN, 0};
    return ::poll(&one, 1, milliseconds) == 1;
  }
  void Await() const { EXPECT(Happens(20'000), "waited in vain"); }

 private:
  std::array<int, 2> fds_{};
};

/// Runs this as the first process of a pid namespace.
pid_t StartFirst(const std::function<void()>& run) {
  return Start([&] {
    const int flags = ::getuid() == 0 ? CLONE_NEWPID : CLONE_NEWPID | CLONE_NEWUSER;
    if (::unshare(flags) != 0) std::_Exit(4);
    std::_Exit(Wait(Start(run)) == 0 ? 0 : 1);
  });
}

/// A process is killed while it waits for another, whose thread has the same number elsewhere.
void TestNamespaces(std::uint64_t) {
  if (WEXITSTATUS(Wait(StartFirst([] {}))) == 4) Skip("a pid namespace");
  static const Event* has_it = nullptr;
  static const Event* may_go_on = nullptr;
  for (std::uint64_t writes = 0; writes < 16; ++writes) {
    const FileDescriptor file = NewFile();
    const Attached arena = Expect(SharedArena::Create(file.get(), SmallArena(300, false)));
    std::array<double, 20> starts{};
    std::array<double, 20> serials{};
    Expect(SharedArena::Attach(file.get()))->AllocateMany({1}, 0, starts, serials);
    const Event sweeps;
    const Event goes_on;
    const Event is_there;
    const Event waits;
    const Event has_a_block;
    has_it = &sweeps;
    may_go_on = &goes_on;
    const pid_t victim = StartFirst([&] {
      const Attached mine = Expect(SharedArena::Attach(file.get()));
      is_there.Happen();
      waits.Await();
      std::thread([] {
        ::usleep(20'000);
        std::_Exit(0);
      }).detach();
      mine->Allocate({1}, 0);
    });
    is_there.Await();
    const pid_t holder = StartFirst([&] {
      const Attached mine = Expect(SharedArena::Attach(file.get()));
      stop = [] {
        has_it->Happen();
        may_go_on->Await();
      };
      writes_left = writes;
      const Swept swept = mine->Sweep();
      EXPECT(swept.code == Code::kDone && swept.blocks == starts.size(), "code %d, %" PRIu64 " blocks",
             static_cast<int>(swept.code), swept.blocks);
    });
    sweeps.Await();
    waits.Happen();
    EXPECT(Wait(victim) == 0, "victim");
    const pid_t next = Start([&] {
      EXPECT(arena->Allocate({1}, 0).code == Code::kDone, "allocate");
      has_a_block.Happen();
    });
    EXPECT(!has_a_block.Happens(50), "two have the lock, after %" PRIu64 " writes", writes);
    goes_on.Happen();
    EXPECT(Wait(holder) == 0 && Wait(next) == 0, "holder, next");
    ExpectSound(*arena);
    EXPECT(arena->Measure().stats.blocks == 1, "blocks");
  }
}

/// Allocates and frees what is its own, as long as it lives.
[[noreturn]] void Hammer(SharedArena& arena, std::uint64_t seed) {
  Random random(seed);
  std::vector<Outcome> blocks;
  for (;;) {
    if (blocks.size() < 40 && Below(random, 5) < 3) {
      const Outcome outcome = arena.Allocate({1 + Below(random, 40)}, 0);
      EXPECT(outcome.code == Code::kDone || outcome.code == Code::kNoSpace, "code %d",
             static_cast<int>(outcome.code));
      if (outcome.code == Code::kDone) blocks.push_back(outcome);
    } else if (!blocks.empty()) {
      std::swap(blocks[Below(random, blocks.size())], blocks.back());
      const Outcome freed = arena.Free(blocks.back().start, blocks.back().serial, false);
      EXPECT(freed.code == Code::kDone, "code %d", static_cast<int>(freed.code));
      blocks.pop_back();
    }
  }
}

/// Processes that are killed at random moments, while this one goes on.
void TestKills(std::uint64_t seed) {
  Random random(seed);
  const FileDescriptor file = NewFile();
  const Attached arena = Expect(SharedArena::Create(file.get(), SmallArena(3000, false)));
  Blocks own;
  for (int run = 0; run < 100; ++run) {
    std::vector<pid_t> others;
    others.reserve(2);
    for (int i = 0; i < 2; ++i) {
      others.push_back(
          Start([&] { Hammer(*Expect(SharedArena::Attach(file.get())), random() + others.size()); }));
    }
    const std::uint64_t calls = Below(random, 2000);
    const auto work = [&](std::uint64_t count) {
      for (std::uint64_t call = 0; call < count; ++call) {
        if (own.size() < 50 && Below(random, 2) == 0) {
          const Outcome outcome = arena->Allocate({1 + Below(random, 20)}, 0);
          if (outcome.code == Code::kDone) Insert(own, outcome);
        } else if (!own.empty()) {
          auto found = own.lower_bound(Below(random, 3000));
          if (found == own.end()) found = own.begin();
          EXPECT(arena->Free(found->first, found->second.serial, false).code == Code::kDone, "free");
          own.erase(found);
        }
      }
    };
    ::usleep(static_cast<useconds_t>(Below(random, 8000)));
    for (const pid_t pid : others) {
      work(calls);
      ::kill(pid, SIGKILL);
      const int status = Wait(pid);
      EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "run %d: status %x", run, status);
      const Report report = arena->Check();
      EXPECT(report.is_sound(), "seed %" PRIu64 " run %d: %" PRIu64 " and %" PRIu64, seed, run,
             report.books.count, report.records.count);
      EXPECT(AreIn(own, BlocksOf(*arena)), "seed %" PRIu64 " run %d: a block is lost", seed, run);
    }
    EXPECT(arena->Sweep().code == Code::kDone, "sweep");
    EXPECT(BlocksOf(*arena) == own, "seed %" PRIu64 " run %d: after the sweep", seed, run);
    ExpectSound(*arena);
  }
}

/// Where the header has what is not of the lock and is not constant; see SharedArena::Header.
constexpr std::uint64_t kLockEnd = 256 + sizeof(pthread_mutex_t);

/// Headers that are no arena's, and any bytes behind them.
void TestDamage(std::uint64_t seed) {
  const FileDescriptor file = NewFile();
  EXPECT(FaultOf(SharedArena::Attach(file.get())) == Fault::kMagic, "empty");
  Creation impossible = SmallArena(100);
  impossible.memory_bytes -= 1;
  EXPECT(FaultOf(SharedArena::Create(file.get(), impossible)) == Fault::kCreation, "short memory");
  impossible = SmallArena(100);
  impossible.kind = static_cast<Kind>(6);
  EXPECT(FaultOf(SharedArena::Create(file.get(), impossible)) == Fault::kCreation, "no kind");
  Attached arena = Expect(SharedArena::Create(file.get(), SmallArena(1000)));
  const std::uint64_t books_bytes = arena->description().books_bytes;
  const auto flip = [&](std::uint64_t at, std::uint8_t with) {
    std::uint8_t byte = 0;
    EXPECT(::pread(file.get(), &byte, 1, static_cast<off_t>(at)) == 1, "read");
    byte ^= with;
    EXPECT(::pwrite(file.get(), &byte, 1, static_cast<off_t>(at)) == 1, "write");
  };
  for (std::uint64_t at = 0; at < 256; ++at) {
    flip(at, 1);
    const Fault fault = FaultOf(SharedArena::Attach(file.get()));
    const Fault expected = at < 8    ? Fault::kMagic
                           : at < 12 ? Fault::kVersion
                           : at < 16 ? Fault::kAbi
                                     : Fault::kChecksum;
    // The last bytes before the lock's line are padding.
    EXPECT(fault == expected || (fault == Fault::kNone && at >= 208), "byte %" PRIu64 ": fault %d", at,
           static_cast<int>(fault));
    if (at == 0) EXPECT(FaultOf(SharedArena::Create(file.get(), SmallArena(10))) == Fault::kMagic, "foreign");
    flip(at, 1);
  }
  ExpectSound(*arena);
  // Too short for what it says.
  Creation plain = SmallArena(1000);
  plain.kind = Kind::kShm;
  const FileDescriptor cut = NewFile();
  Expect(SharedArena::Create(cut.get(), plain));
  EXPECT(::ftruncate(cut.get(), static_cast<off_t>(books_bytes)) == 0, "errno %d", errno);
  EXPECT(FaultOf(SharedArena::Attach(cut.get())) == Fault::kSize, "cut");

  Random random(seed);
  for (int i = 0; i < 60; ++i) arena->Allocate({1 + Below(random, 10)}, 0);
  for (int i = 0; i < 20; ++i) arena->Free(Below(random, 300), 0, true);
  arena->Tag("one");
  const Image image(file.get());
  std::vector<std::uint64_t> places;
  for (off_t data = 0; (data = ::lseek(file.get(), data, SEEK_DATA)) >= 0;) {
    const off_t hole = ::lseek(file.get(), data, SEEK_HOLE);
    for (; data < hole; ++data) {
      const auto at = static_cast<std::uint64_t>(data);
      std::uint8_t byte = 0;
      EXPECT(::pread(file.get(), &byte, 1, data) == 1, "read");
      // Mostly where something is.
      if (at >= kLockEnd && at < books_bytes && (byte != 0 || Below(random, 30) == 0)) places.push_back(at);
    }
  }
  for (int round = 0; round < 400; ++round) {
    image.Restore();
    const std::uint64_t changes = 1 + Below(random, 30);
    for (std::uint64_t i = 0; i < changes; ++i) {
      flip(places[Below(random, places.size())], static_cast<std::uint8_t>(1 + Below(random, 255)));
    }
    // Each call ends, and in no signal.
    ::alarm(20);
    for (int call = 0; call < 30; ++call) {
      arena->Allocate({1 + Below(random, 60), std::uint64_t{4096} << Below(random, 4)}, 0);
      arena->Free(Below(random, 1000), 0, true);
      arena->BlockAt(Below(random, 1000));
    }
    arena->Measure();
    arena->Owners();
    arena->Tags();
    arena->Check();
    BlocksOf(*arena);
    arena->Sweep();
    // As if its holder had died.
    const std::uint32_t operation = 1;
    EXPECT(::pwrite(file.get(), &operation, sizeof operation, kLockEnd) == sizeof operation, "write");
    ExpectSound(*arena);
    for (int call = 0; call < 30; ++call) {
      arena->Allocate({1 + Below(random, 60)}, 0);
      arena->Free(Below(random, 1000), 0, true);
    }
    ExpectSound(*arena);
    ::alarm(0);
  }
}

/// More owners and more tags than there can be, more blocks than are allowed.
void TestLimits(std::uint64_t) {
  for (const bool reclaims : {true, false}) {
    const FileDescriptor file = NewFile();
    Creation creation = SmallArena(2000, reclaims);
    creation.max_blocks = 1500;
    const Attached arena = Expect(SharedArena::Create(file.get(), creation));
    // All others are alive: one description has their bytes.
    const auto alive = syscall::Reopen(file.get());
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_start = (off_t{1} << 41) + 2;
    lock.l_len = kMostOwners - 1;
    EXPECT(::fcntl(std::get<FileDescriptor>(alive).get(), F_OFD_SETLK, &lock) == 0, "errno %d", errno);
    EXPECT(FaultOf(SharedArena::Attach(file.get())) == Fault::kOwners, "an owner more");
    lock.l_type = F_UNLCK;
    EXPECT(::fcntl(std::get<FileDescriptor>(alive).get(), F_OFD_SETLK, &lock) == 0, "errno %d", errno);
    // All others are dead and have a block each.
    for (std::uint32_t number = 2; number <= kMostOwners; ++number) {
      const Attached other = Expect(SharedArena::Attach(file.get()));
      EXPECT(other->owner() == number, "owner %u", other->owner());
      EXPECT(other->Allocate({1}, 0).code == Code::kDone, "block of %u", number);
    }
    const auto attachment = SharedArena::Attach(file.get());
    EXPECT(FaultOf(attachment) == (reclaims ? Fault::kNone : Fault::kOwners), "fault %d",
           static_cast<int>(FaultOf(attachment)));
    EXPECT(arena->Measure().stats.blocks == (reclaims ? 0 : kMostOwners - 1), "blocks");
    EXPECT(arena->Sweep().owners == (reclaims ? 0 : kMostOwners - 1), "owners");
    EXPECT(std::holds_alternative<Attached>(SharedArena::Attach(file.get())), "after a sweep");

    std::uint64_t blocks = 0;
    Outcome last;
    while ((last = arena->Allocate({1}, 0)).code == Code::kDone) ++blocks;
    EXPECT(blocks == creation.max_blocks && last.code == Code::kTooManyBlocks, "%" PRIu64 " blocks", blocks);
    // All or nothing.
    for (std::uint64_t i = 0; i < 5; ++i) arena->Free(i, 0, false);
    std::array<double, 6> starts{};
    std::array<double, 6> serials{};
    EXPECT(arena->AllocateMany({1}, 0, starts, serials).code == Code::kTooManyBlocks, "six");
    EXPECT(arena->Measure().stats.blocks == blocks - 5, "some of them stay");

    EXPECT(arena->Tag(std::string(48, 'x')).code == Code::kInvalid, "a long tag");
    EXPECT(arena->Tag(std::string("a\0b", 3)).code == Code::kInvalid, "a tag with a zero");
    EXPECT(arena->Allocate({1}, 1).code == Code::kInvalid, "a tag that there is not");
    for (std::uint32_t number = 1; number <= kMostTags; ++number) {
      EXPECT(arena->Tag(std::string(47 - 4, 'x') + std::to_string(10000 + number).substr(1)).tag == number,
             "tag %u", number);
    }
    EXPECT(arena->Tag("one more").code == Code::kTooManyTags, "one more");
    EXPECT(arena->Tag(std::string(47 - 4, 'x') + "0007").tag == 7, "an old one");
    EXPECT(arena->Allocate({1}, kMostTags).tag == kMostTags, "the last tag");
    ExpectSound(*arena);
  }
}

/// A file system without room for more records.
void TestFull(std::uint64_t) {
  const uid_t user = ::getuid();
  if (::unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("arena", "/mnt", "tmpfs", 0, "size=1m") != 0) {
    Skip("no file system of its own here: errno " + std::to_string(errno));
  }
  const FileDescriptor file(::open("/mnt", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  EXPECT(file.get() >= 0, "errno %d", errno);
  Creation creation = SmallArena(20000);
  creation.kind = Kind::kShm;
  creation.allocate = true;
  auto refused = SharedArena::Create(file.get(), creation);
  EXPECT(std::get<Refusal>(refused).error == ENOSPC, "errno %d", std::get<Refusal>(refused).error);
  creation.allocate = false;
  const Attached arena = Expect(SharedArena::Create(file.get(), creation));
  const FileDescriptor rest(::open("/mnt", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  std::vector<char> page(4096);
  for (int pages = 0;; ++pages) {
    if (::write(rest.get(), page.data(), page.size()) <= 0) break;
  }
  Blocks blocks;
  Outcome outcome;
  while ((outcome = arena->Allocate({1}, 0)).code == Code::kDone) Insert(blocks, outcome);
  EXPECT(outcome.code == Code::kNoBooks && outcome.error == ENOSPC, "code %d, errno %d",
         static_cast<int>(outcome.code), outcome.error);
  EXPECT(BlocksOf(*arena) == blocks, "changed");
  ExpectSound(*arena);
  const Outcome tag = arena->Tag("a tag");
  EXPECT(tag.code == Code::kNoBooks && tag.error == ENOSPC, "code %d, errno %d", static_cast<int>(tag.code),
         tag.error);
  if (!blocks.empty()) EXPECT(arena->Free(blocks.begin()->first, 0, false).code == Code::kDone, "free");
  EXPECT(::ftruncate(rest.get(), 0) == 0, "errno %d", errno);
  EXPECT(arena->Tag("a tag").tag == 1, "tag");
  for (int i = 0; i < 1000; ++i) EXPECT(arena->Allocate({1}, 1).code == Code::kDone, "block %d", i);
  ExpectSound(*arena);
}

const Suites suites = {
    {"model", TestModel}, {"stops", TestStops},   {"holder", TestHolder}, {"namespaces", TestNamespaces},
    {"kills", TestKills}, {"damage", TestDamage}, {"limits", TestLimits}, {"full", TestFull},
};

}  // namespace

int main(int argc, char** argv) {
  return RunSuite(suites, argc, argv);
}
