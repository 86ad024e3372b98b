/// An arena that several processes share: against a model, stopped at every write, killed, damaged, and full.
///
///     arena-shared-test SUITE [SEED]
///
/// Compiled together with what it tests, whose every write to shared memory calls BeforeWrite(). Ends with 1
/// and says why at the first difference.
#include "arena_shared.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
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
        ExpectSound(arena);
        EXPECT(BlocksOf(arena) == model, "seed %" PRIu64 " call %d", seed, call);
        const Measures measures = arena.Measure();
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
        for (const Owner& owner : arena.Owners()) {
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
        EXPECT(arena.Map(cells) == Code::kDone, "map");
        for (const double cell : cells) EXPECT(cell >= 0 && cell <= 1, "%f", cell);
        if (cells.size() == granules) {
          for (const auto& [start, block] : model) EXPECT(cells[start] == 1, "cell %" PRIu64, start);
        }
      }
    }
  }
}

const Suites suites = {
    {"model", TestModel},
};

}  // namespace

int main(int argc, char** argv) {
  return RunSuite(suites, argc, argv);
}
