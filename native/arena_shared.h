/// An arena that several processes share: the file with its books, one attachment to it, and each operation
/// as one call under the file's lock.
///
/// System calls and no JavaScript. Nothing here throws.
///
/// **The file** begins with the books, at offset 0: header, owners' slots, tags, Books, Records. What grows
/// (slots, tags, records) lies in holes that are filled by fallocate() before they are touched, so a full
/// file system is an error and no signal. Where the file holds the memory, too, that begins at
/// `memory_offset`.
///
/// **An owner** is one attachment. It holds a lock of its open file description on a byte of its own, which
/// the kernel releases however its process ends: an owner is dead exactly if another description can have
/// that lock. What is written in its slot is for display.
///
/// **A process that dies** in any call, between any two writes, leaves the lock to the next caller, whose
/// call repairs the books first. A block is allocated once its start is written in Books *and* it has its
/// record; repair frees one without the other. No block that a call has returned is ever lost.
///
/// **Memory that others write** is not trusted: whatever is read from it and used as an index is compared
/// with what there can be. kDamaged is the answer then, and nothing was changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "arena_books.h"
#include "arena_records.h"
#include "syscall.h"

namespace iospace::arena {

/// Where the memory of an arena is. The numbers stand in the header, and in lib/arena/backing.ts.
enum class Kind : std::uint32_t {
  kShm = 1,    ///< In the file, which has a name in /dev/shm.
  kMemfd,      ///< In the file, a memfd. Create() seals it against shrinking and growing.
  kHugepages,  ///< The same, of huge pages.
  kModule,     ///< Reserved by the kernel module, which keeps the file.
  kBuffer,     ///< A DmaBuffer.
};

/// What an arena is to be.
struct Creation {
  Shape shape;
  std::uint64_t memory_bytes = 0;  ///< At least all granules; the rest is never given out.
  Kind kind = Kind::kMemfd;
  bool reclaims = false;               ///< An allocation without space frees the blocks of dead owners.
  bool allocate = true;                ///< Takes all pages of the memory at once, where the file holds it.
  std::uint64_t physical_address = 0;  ///< Of the first granule; 0 where there is none.
  std::uint64_t max_blocks = 0;        ///< 0 for no limit.
  std::string name;                    ///< At most 63 bytes, for display.
};

/// What an arena is. Never changes.
struct Description {
  Shape shape;
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_offset = 0;  ///< Where the memory begins in the file; 0 where the file has none.
  std::uint64_t books_bytes = 0;    ///< Of the file, from 0: most of them a hole.
  std::uint64_t file_bytes = 0;     ///< The least size of the file.
  std::uint64_t physical_address = 0;
  std::uint64_t max_blocks = 0;
  Kind kind = Kind::kMemfd;
  bool reclaims = false;
  std::string name;
};

/// What is wrong with a file that is to be an arena. lib/arena/refusal.ts has the same numbers, from 0.
enum class Fault : std::uint8_t {
  kNone,      ///< The system call failed.
  kCreation,  ///< EINVAL: no arena can be so (shape, memory shorter than its granules, name).
  kExists,    ///< EEXIST: Create() where there is an arena.
  kMagic,     ///< EINVAL: the file has no arena, or none yet.
  kVersion,   ///< EPROTO: of another version; `expected` and `found`.
  kAbi,       ///< EPROTO: byte order, pointer size, C library or size of its lock.
  kChecksum,  ///< EBADMSG: the header is damaged.
  kSize,      ///< EBADMSG: the file or the header's sizes; `expected` and `found` in bytes.
  kOwners,    ///< EUSERS: all 1023 owners are alive, or dead with blocks where nothing is reclaimed.
  kLock,      ///< The lock is of no use any more; `error` says how.
};

/// Why there is no arena.
struct Refusal {
  Fault fault = Fault::kNone;
  int error = 0;               ///< errno
  const char* syscall = "";    ///< Empty where none failed.
  std::uint64_t expected = 0;  ///< Of kVersion, kAbi, kChecksum, kSize.
  std::uint64_t found = 0;
};

/// How a call ended. The numbers are those of lib/arena/refusal.ts.
enum class Code : std::uint8_t {
  kDone = 0,
  kInvalid = 1,        ///< Nothing can meet the request.
  kNoSpace = 2,        ///< ENOSPC: `free` and `longest` say what there is.
  kNoBooks = 3,        ///< ENOSPC or what `error` says: no memory for the books.
  kTooManyBlocks = 4,  ///< EDQUOT: max_blocks.
  kNotAllocated =
      5,            ///< The granule is in no block; `start` and `length` are those of the free run around it.
  kInside = 6,      ///< The granule is inside of the block that the outcome has.
  kStale = 7,       ///< The block there, which the outcome has, is another: its serial differs.
  kOtherOwner = 8,  ///< The block, which the outcome has, is another owner's.
  kTooManyTags = 9,  ///< ENOSPC: 4095 there are.
  kDamaged = 10,     ///< EBADMSG: the books are damaged beyond what a repair mends.
  kLock = 11,        ///< The lock failed; `error` says how (ENOTRECOVERABLE).
};

/// What a call gave. Which members count depends on the code.
struct Outcome {
  Code code = Code::kDone;
  int error = 0;             ///< errno of kNoBooks and kLock.
  std::uint64_t start = 0;   ///< The block's first granule.
  std::uint64_t length = 0;  ///< In granules.
  std::uint32_t serial =
      0;  ///< Never 0 for a block. No two blocks of 2^32 that follow each other have the same.
  std::uint32_t owner = 0;
  std::uint32_t tag = 0;
  std::uint64_t free = 0;     ///< Of kNoSpace: granules.
  std::uint64_t longest = 0;  ///< Of kNoSpace: granules of the longest free run.
  std::uint32_t index = 0;    ///< Of FreeMany(): which cannot be freed.
};

/// A block, as Blocks() lists it.
struct Block {
  std::uint64_t start = 0;
  std::uint64_t length = 0;
  std::uint32_t serial = 0;
  std::uint32_t owner = 0;
  std::uint32_t tag = 0;
};

/// Blocks and their granules.
struct Usage {
  std::uint64_t blocks = 0;
  std::uint64_t granules = 0;
};

struct Measures {
  Code code = Code::kDone;
  Stats stats;
  std::vector<Usage> by_owner;  ///< By number; those of numbers without an owner are zero.
  std::vector<Usage> by_tag;    ///< By number; 0 is no tag.
};

/// An owner. All but `number`, `is_alive` and `blocks` is what it said of itself.
struct Owner {
  std::uint32_t number = 0;
  bool is_alive = false;
  std::uint64_t blocks = 0;
  std::uint32_t pid = 0;      ///< In its own namespace.
  std::uint32_t thread = 0;   ///< The thread that attached.
  std::uint64_t started = 0;  ///< When its process started, in clock ticks since boot.
  std::string name;           ///< Of its program.
};

/// What a sweep gave back.
struct Swept {
  Code code = Code::kDone;
  std::uint64_t blocks = 0;
  std::uint64_t granules = 0;
  std::uint32_t owners = 0;
};

/// What Check() found. Empty means sound.
struct Report {
  Code code = Code::kDone;
  Differences books;
  RecordDifferences records;
  bool is_sound() const { return code == Code::kDone && books.count == 0 && records.count == 0; }
};

/// One attachment to an arena. Any thread may call it; each call takes the arena's lock. The end of the
/// object ends the attachment: what it still owns are a dead owner's blocks.
///
/// It opens the file anew and maps the books alone. The memory is to be mapped through the caller's own
/// descriptor.
class SharedArena {
 public:
  using Attachment = std::variant<std::unique_ptr<SharedArena>, Refusal>;

  /// What Create() would make of it, `file_bytes` among it; nothing if no arena can be so.
  static std::variant<Description, Refusal> Plan(const Creation& creation, std::uint64_t page = 0);

  /// Makes an arena of a file without one, and attaches to it. The file is made as long as it has to be. If
  /// this is stopped anywhere, the file has no arena, and another Create() begins again.
  static Attachment Create(int fd, const Creation& creation);

  static Attachment Attach(int fd);

  SharedArena(const SharedArena&) = delete;
  SharedArena& operator=(const SharedArena&) = delete;
  ~SharedArena();

  const Description& description() const { return description_; }
  /// 1 to 1023.
  std::uint32_t owner() const { return owner_; }

  /// kInvalid, kNoSpace, kNoBooks, kTooManyBlocks.
  Outcome Allocate(const Request& request, std::uint32_t tag);

  /// As many blocks as `starts` is long, or none. The outcome is of the one that failed.
  Outcome AllocateMany(const Request& request, std::uint32_t tag, std::span<double> starts,
                       std::span<double> serials);

  /// Frees the block that starts there. `serial` is compared with the block's, unless it is 0. `force` frees
  /// that of another owner. kNotAllocated, kInside, kStale, kOtherOwner: nothing was changed.
  Outcome Free(std::uint64_t start, std::uint32_t serial, bool force);

  /// Frees all of these blocks, which are all different, or none. The outcome is of the one that cannot be.
  Outcome FreeMany(std::span<const double> starts, std::span<const double> serials);

  /// The block that the granule is in, or kNotAllocated with the free run.
  Outcome BlockAt(std::uint64_t granule);

  /// The number of a tag (`outcome.tag`), which is entered if there is none of that name. At most 47 bytes;
  /// an empty one is 0.
  Outcome Tag(std::string_view name);
  /// All tags by number; the first is empty.
  std::vector<std::string> Tags();

  /// Frees all blocks of dead owners.
  Swept Sweep();

  Measures Measure();
  /// Those that are alive or have blocks, this one among them.
  std::vector<Owner> Owners();
  /// Recomputes everything and changes nothing.
  Report Check();

  /// The blocks from that granule on, as many as there is room for; how many there were. Go on behind the
  /// last.
  std::size_t Blocks(std::uint64_t from, std::span<Block> blocks);

  /// The share (0 to 1) of used granules in each of as many equal parts of the arena.
  Code Map(std::span<double> cells);

 private:
  class Lock;
  struct Header;
  struct Slot;
  struct TagName;
  struct Layout;

  SharedArena(FileDescriptor file, Range mapping, Description description, const Books& books);

  static std::uint64_t ChecksumOf(const Header& header);
  static Result<Range> MapBooks(const FileDescriptor& file, const Description& description);
  static std::variant<Description, Refusal> Read(const FileDescriptor& file, std::uint64_t size);
  static Attachment Enter(FileDescriptor file, Range mapping, Description description, const Books& books);
  std::optional<Refusal> TakeSlot(const Self& self);
  bool IsAlive(std::uint32_t owner) const;
  /// Whether its processes are of several pid namespaces.
  bool IsMixed() const;

  void Begin();
  void End();
  void Repair();
  /// Backs a part of the books with memory.
  int Back(const void* from, std::size_t bytes);

  Outcome Try(const Request& request, std::uint32_t tag);
  Outcome TryMany(const Request& request, std::uint32_t tag, std::span<double> starts,
                  std::span<double> serials);
  bool MakesRoomFor(const Outcome& outcome);
  std::optional<Records::Place> MayFree(std::uint64_t start, std::uint32_t serial, bool force) const;
  Outcome WhyNotFreed(std::uint64_t start, std::uint32_t serial);
  Outcome FreeFound(std::uint64_t start, const Records::Place& place);
  Outcome BlockAtLocked(std::uint64_t granule);
  Swept SweepLocked();
  template <typename Visit>
  void EachBlock(std::uint64_t from, Visit visit);

  std::uint32_t SlotCount() const;
  std::uint32_t TagCount() const;

  /// Of a description of its own, which holds the owner's lock.
  FileDescriptor file_;
  Range mapping_;
  Description description_;
  Header* header_ = nullptr;
  Slot* slots_ = nullptr;
  TagName* tags_ = nullptr;
  Books books_;
  Records records_;
  std::uint32_t owner_ = 0;
};

}  // namespace iospace::arena
