#include "arena_shared.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "arena_writes.h"
#include "pause.h"

namespace iospace::arena {
namespace {

constexpr std::uint64_t kMagic = 0x3173'6873'6961'6f69;  // "ioaishs1"
constexpr std::uint32_t kVersion = 1;
#ifdef __GLIBC__
constexpr std::uint32_t kLibrary = 1;
#else
constexpr std::uint32_t kLibrary = 2;
#endif
/// What must be the same in all processes: byte order, C library, bits of a pointer, size of the lock.
constexpr std::uint32_t kAbi = (std::endian::native == std::endian::little ? 1U : 2U) << 24 | kLibrary << 16 |
                               static_cast<std::uint32_t>(sizeof(void*) * 8) << 8 | sizeof(pthread_mutex_t);

constexpr std::uint64_t kLine = 64;
constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;
constexpr std::size_t kLongestName = 63;
constexpr std::size_t kLongestTag = 47;

/// Bytes that are locked. They lie behind every file's end.
constexpr off_t kCreationByte = off_t{1} << 40;
constexpr off_t kFirstOwnerByte = off_t{1} << 41;
constexpr off_t kTurnByte = off_t{1} << 42;

constexpr std::uint64_t RoundUp(std::uint64_t value, std::uint64_t to) {
  return (value + to - 1) / to * to;
}

constexpr bool HoldsMemory(Kind kind) {
  return kind == Kind::kShm || kind == Kind::kMemfd || kind == Kind::kHugepages;
}

constexpr std::array<std::uint32_t, kMostOwners + 1> kNoCounts{};

void Sleep() {
  const timespec time{0, 50'000};
  ::nanosleep(&time, nullptr);
}

int InitializeLock(pthread_mutex_t& lock) {
  pthread_mutexattr_t attributes;
  int error = ::pthread_mutexattr_init(&attributes);
  if (error != 0) return error;
  error = ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (error == 0) error = ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (error == 0) error = ::pthread_mutex_init(&lock, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  return error;
}

Outcome NoLock(int error) {
  Outcome outcome;
  outcome.code = Code::kLock;
  outcome.error = error;
  return outcome;
}

/// A block, of which there is a record.
Outcome Found(const Answer& answer, const Records::Place& place) {
  Outcome outcome;
  outcome.start = answer.start;
  outcome.length = answer.length;
  outcome.serial = place.record.serial;
  outcome.owner = place.record.owner;
  outcome.tag = place.record.tag;
  return outcome;
}

Refusal Refuse(const Failure& failure) {
  return {Fault::kNone, failure.error, failure.syscall};
}

}  // namespace

// Padded so that what each call writes has its lines to itself.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
struct SharedArena::Header {
  // Never changes after Create().
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t abi;
  std::uint32_t kind;
  std::uint32_t reclaims;
  std::uint64_t granule;
  std::uint64_t granules;
  std::uint64_t memory_bytes;
  std::uint64_t memory_offset;
  std::uint64_t books_bytes;
  std::uint64_t physical_address;
  std::uint64_t max_blocks;
  char name[kLongestName + 1];
  std::uint64_t reserved[7];
  std::uint64_t checksum;  ///< Of everything before it.
  // Written by each call. With the usual sizes of a lock all of it is one cache line.
  alignas(kLine) pthread_mutex_t lock;
  std::uint32_t operation;  ///< The owner whose call has not come to its end, or 0.
  RecordState records;
  // Written seldom.
  alignas(kLine) std::uint32_t slots;  ///< The highest that was ever taken.
  std::uint32_t tags;                  ///< How many there are.
  std::uint64_t pids;                  ///< The namespace of the maker's process numbers; 0 if unknown.
  std::uint32_t is_mixed;              ///< Not 0 once somebody of another namespace has come.
};

std::uint64_t SharedArena::ChecksumOf(const Header& header) {
  return Checksum(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)));
}

/// Of one owner. All but `blocks` is for display.
struct SharedArena::Slot {
  std::uint32_t blocks;
  std::uint32_t process;
  std::uint32_t thread;
  std::uint32_t reserved;
  std::uint64_t started;
  std::uint64_t reserved_too;
  char name[16];
  std::uint64_t reserved_last[2];
};

struct SharedArena::TagName {
  char name[kLongestTag + 1];
};

/// Where each part lies in the file.
struct SharedArena::Layout {
  explicit Layout(const Shape& shape) {
    static_assert(sizeof(Slot) == kLine && offsetof(Header, lock) == 256 && sizeof(Header) <= kSlots);
    books = kTags + (kMostTags + 1) * sizeof(TagName);
    static_assert((kTags + (kMostTags + 1) * sizeof(TagName)) % kLine == 0);
    heads = RoundUp(books + Books::SizeFor(shape), kLine);
    nodes = RoundUp(heads + Records::HeadBytes(shape.granules), kLine);
    size = nodes + Records::NodeBytes(shape.granules);
  }

  std::span<std::byte> BooksIn(std::byte* base) const {
    return {base + books, static_cast<std::size_t>(heads - books)};
  }

  static constexpr std::uint64_t kSlots = 512;
  static constexpr std::uint64_t kTags = kSlots + (kMostOwners + 1) * sizeof(Slot);
  std::uint64_t books;
  std::uint64_t heads;
  std::uint64_t nodes;
  std::uint64_t size;
};

/// Has the arena's lock, and books that are whole, as long as it lives.
///
/// The kernel knows the holder of the lock by its thread's number, which is another's, too, in another pid
/// namespace. If that one dies while it waits for the lock, the holder is called dead who lives, and two have
/// the lock. So nobody waits for it where namespaces are mixed: they wait for their turn before, a lock of
/// the file, which costs system calls, but knows its holder better.
class SharedArena::Lock {
 public:
  explicit Lock(SharedArena& arena) {
    Take(arena);
    // Somebody of another namespace has come meanwhile.
    if (error_ == 0 && turn_ == nullptr && arena.IsMixed()) {
      held_.reset();
      Take(arena);
    }
    if (held_ == nullptr) return;
    if (error_ == EOWNERDEAD || arena.header_->operation != 0) arena.Repair();
    if (error_ == EOWNERDEAD) error_ = ::pthread_mutex_consistent(held_.get());
  }

  int error() const { return error_; }

 private:
  struct Unlock {
    void operator()(pthread_mutex_t* lock) const { ::pthread_mutex_unlock(lock); }
  };
  struct EndTurn {
    void operator()(const FileDescriptor* file) const {
      static_cast<void>(syscall::UnlockByte(file->get(), kTurnByte));
    }
  };

  void Take(SharedArena& arena) {
    if (arena.IsMixed()) {
      if (const auto failure = syscall::LockByte(arena.file_.get(), kTurnByte, true)) {
        error_ = failure->error;
        return;
      }
      turn_.reset(&arena.file_);
    }
    pthread_mutex_t* const lock = &arena.header_->lock;
    // A call takes less time than putting a thread to sleep. The waits double: whoever has the books in its
    // caches gets much done meanwhile, and two that take turns at each call have them fetched each time.
    constexpr int kTries = 16;
    constexpr int kMostPauses = 2048;
    error_ = ::pthread_mutex_trylock(lock);
    for (int i = 0, pauses = 16; error_ == EBUSY && i < kTries; ++i) {
      for (int pause = 0; pause < pauses; ++pause) Pause();
      pauses = std::min(2 * pauses, kMostPauses);
      error_ = ::pthread_mutex_trylock(lock);
    }
    if (error_ == EBUSY && turn_ == nullptr) error_ = ::pthread_mutex_lock(lock);
    // Who has it began before there were turns.
    while (error_ == EBUSY) {
      Sleep();
      error_ = ::pthread_mutex_trylock(lock);
    }
    if (error_ == 0 || error_ == EOWNERDEAD) held_.reset(lock);
  }

  /// Ends after `held_`.
  std::unique_ptr<const FileDescriptor, EndTurn> turn_;
  std::unique_ptr<pthread_mutex_t, Unlock> held_;
  int error_ = 0;
};

std::variant<Description, Refusal> SharedArena::Plan(const Creation& creation, std::uint64_t page) {
  const Shape& shape = creation.shape;
  const bool is_kind = creation.kind >= Kind::kShm && creation.kind <= Kind::kBuffer;
  if (!is_kind || Books::SizeFor(shape) == 0 || creation.memory_bytes / shape.granule < shape.granules ||
      creation.memory_bytes > std::uint64_t{1} << 62 || creation.name.size() > kLongestName) {
    return Refusal{Fault::kCreation, EINVAL};
  }
  Description description;
  description.shape = shape;
  description.memory_bytes = creation.memory_bytes;
  description.books_bytes = Layout(shape).size;
  description.physical_address = creation.physical_address;
  description.max_blocks = creation.max_blocks;
  description.kind = creation.kind;
  description.reclaims = creation.reclaims;
  description.name = creation.name;
  // Pages are powers of two, as granules are.
  const std::uint64_t unit = std::max({2 * kMebibyte, shape.granule, page});
  description.file_bytes = RoundUp(description.books_bytes, std::max(page, kMebibyte / 16));
  if (HoldsMemory(creation.kind)) {
    description.memory_offset = RoundUp(description.books_bytes, unit);
    description.file_bytes =
        description.memory_offset + RoundUp(creation.memory_bytes, std::max(page, kMebibyte / 256));
  }
  return description;
}

SharedArena::Attachment SharedArena::Create(int fd, const Creation& creation) {
  auto reopened = syscall::Reopen(fd);
  if (const auto* failure = std::get_if<Failure>(&reopened)) return Refuse(*failure);
  auto& file = std::get<FileDescriptor>(reopened);
  const auto off = [](std::uint64_t value) { return static_cast<off_t>(value); };
  // The lock ends with this call, however it ends.
  if (const auto failure = syscall::LockByte(file.get(), kCreationByte, true)) return Refuse(*failure);
  const auto extent = syscall::Extent(file.get());
  if (const auto* failure = std::get_if<Failure>(&extent)) return Refuse(*failure);
  const auto [size, page] = std::get<FileExtent>(extent);
  auto plan = Plan(creation, page);
  if (const auto* refusal = std::get_if<Refusal>(&plan)) return *refusal;
  auto& description = std::get<Description>(plan);
  const auto read = Read(file, size);
  const auto* const none = std::get_if<Refusal>(&read);
  if (none == nullptr || (none->fault != Fault::kMagic && none->fault != Fault::kNone)) {
    return Refusal{Fault::kExists, EEXIST};
  }
  if (none->fault == Fault::kNone || none->found != 0) return *none;
  if (size < description.file_bytes) {
    if (const auto failure = syscall::Truncate(file.get(), off(description.file_bytes)))
      return Refuse(*failure);
  }
  auto mapped = MapBooks(file, description);
  if (const auto* failure = std::get_if<Failure>(&mapped)) return Refuse(*failure);
  auto& mapping = std::get<Range>(mapped);
  std::byte* const base = mapping.data();
  auto& header = *reinterpret_cast<Header*>(base);
  if (const auto failure = syscall::Allocate(file.get(), 0, sizeof(Header))) return Refuse(*failure);
  if (description.kind == Kind::kMemfd || description.kind == Kind::kHugepages) {
    if (const auto failure = syscall::Seal(file.get(), F_SEAL_SHRINK | F_SEAL_GROW)) return Refuse(*failure);
  }
  const Layout layout(description.shape);
  if (const auto failure =
          syscall::Allocate(file.get(), off(layout.books), off(layout.nodes - layout.books))) {
    return Refuse(*failure);
  }
  if (creation.allocate && description.memory_offset != 0) {
    const std::uint64_t bytes = description.file_bytes - description.memory_offset;
    if (const auto failure = syscall::Allocate(file.get(), off(description.memory_offset), off(bytes))) {
      return Refuse(*failure);
    }
  }

  // What an earlier Create() that was stopped has left goes. The magic comes last.
  IOSPACE_ARENA_BEFORE_WRITE();
  std::memset(base, 0, sizeof(Header));
  IOSPACE_ARENA_BEFORE_WRITE();
  std::memset(base + layout.books, 0, layout.nodes - layout.books);
  Header constant{};
  constant.version = kVersion;
  constant.abi = kAbi;
  constant.kind = static_cast<std::uint32_t>(description.kind);
  constant.reclaims = static_cast<std::uint32_t>(description.reclaims);
  constant.granule = description.shape.granule;
  constant.granules = description.shape.granules;
  constant.memory_bytes = description.memory_bytes;
  constant.memory_offset = description.memory_offset;
  constant.books_bytes = description.books_bytes;
  constant.physical_address = description.physical_address;
  constant.max_blocks = description.max_blocks;
  std::copy(description.name.begin(), description.name.end(), constant.name);
  constant.magic = kMagic;
  constant.checksum = ChecksumOf(constant);
  constant.magic = 0;
  IOSPACE_ARENA_BEFORE_WRITE();
  std::memcpy(base, &constant, offsetof(Header, lock));
  if (const int error = InitializeLock(header.lock); error != 0) {
    return Refusal{Fault::kLock, error, "pthread_mutex_init"};
  }
  Note(header.pids, syscall::WhoAmI().pids);
  const auto created = Books::Create(layout.BooksIn(base), description.shape);
  if (std::holds_alternative<Damage>(created)) return Refusal{Fault::kCreation, EINVAL};
  // Somebody may be looking for it, who is to find all of the above.
  std::atomic_thread_fence(std::memory_order_release);
  Write(header.magic, kMagic);
  if (const auto failure = syscall::UnlockByte(file.get(), kCreationByte)) return Refuse(*failure);
  return Enter(std::move(file), std::move(mapping), std::move(description), std::get<Books>(created));
}

SharedArena::Attachment SharedArena::Attach(int fd) {
  auto reopened = syscall::Reopen(fd);
  if (const auto* failure = std::get_if<Failure>(&reopened)) return Refuse(*failure);
  auto& file = std::get<FileDescriptor>(reopened);
  const auto extent = syscall::Extent(file.get());
  if (const auto* failure = std::get_if<Failure>(&extent)) return Refuse(*failure);
  auto read = Read(file, std::get<FileExtent>(extent).size);
  if (const auto* refusal = std::get_if<Refusal>(&read)) return *refusal;
  auto& description = std::get<Description>(read);
  auto mapped = MapBooks(file, description);
  if (const auto* failure = std::get_if<Failure>(&mapped)) return Refuse(*failure);
  auto& mapping = std::get<Range>(mapped);
  const Layout layout(description.shape);
  const auto attached = Books::Attach(layout.BooksIn(mapping.data()));
  const auto* const books = std::get_if<Books>(&attached);
  if (books == nullptr || books->shape().granule != description.shape.granule ||
      books->shape().granules != description.shape.granules) {
    return Refusal{Fault::kChecksum, EBADMSG};
  }
  return Enter(std::move(file), std::move(mapping), std::move(description), *books);
}

Result<Range> SharedArena::MapBooks(const FileDescriptor& file, const Description& description) {
  if (description.books_bytes > SIZE_MAX) return Failure{ENOMEM, "mmap"};
  // Holes of huge pages would be reserved otherwise.
  return syscall::Map(file.get(), static_cast<std::size_t>(description.books_bytes), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_NORESERVE, 0);
}

/// What the header says, if it is one.
std::variant<Description, Refusal> SharedArena::Read(const FileDescriptor& file, std::uint64_t size) {
  Header header{};
  const auto bytes = std::as_writable_bytes(std::span(&header, 1)).first(offsetof(Header, lock));
  // Twice: what comes with a magic may have come after it.
  for (int i = 0; i < 2; ++i) {
    // Not through a mapping, which would have to fill a hole.
    const auto read = syscall::ReadAt(file.get(), bytes, 0);
    if (const auto* failure = std::get_if<Failure>(&read)) return Refuse(*failure);
    if (std::get<std::size_t>(read) < bytes.size() || header.magic != kMagic) {
      return Refusal{Fault::kMagic, EINVAL, "", kMagic, header.magic};
    }
  }
  if (header.version != kVersion) return Refusal{Fault::kVersion, EPROTO, "", kVersion, header.version};
  if (header.abi != kAbi) return Refusal{Fault::kAbi, EPROTO, "", kAbi, header.abi};
  const std::uint64_t sum = ChecksumOf(header);
  if (header.checksum != sum) return Refusal{Fault::kChecksum, EBADMSG, "", sum, header.checksum};

  Creation creation;
  creation.shape = {header.granule, header.granules};
  creation.memory_bytes = header.memory_bytes;
  creation.kind = static_cast<Kind>(header.kind);
  creation.reclaims = header.reclaims != 0;
  creation.physical_address = header.physical_address;
  creation.max_blocks = header.max_blocks;
  creation.name.assign(header.name, ::strnlen(header.name, kLongestName));
  auto plan = Plan(creation);
  if (std::holds_alternative<Refusal>(plan)) return Refusal{Fault::kChecksum, EBADMSG, "", sum, sum};
  auto& description = std::get<Description>(plan);
  if (header.books_bytes != description.books_bytes) {
    return Refusal{Fault::kSize, EBADMSG, "", description.books_bytes, header.books_bytes};
  }
  if (HoldsMemory(creation.kind)) {
    // The maker's pages may have been larger than those that a plan knows.
    if (header.memory_offset < description.memory_offset) {
      return Refusal{Fault::kSize, EBADMSG, "", description.memory_offset, header.memory_offset};
    }
    description.file_bytes += header.memory_offset - description.memory_offset;
    description.memory_offset = header.memory_offset;
  }
  if (size < description.file_bytes) {
    return Refusal{Fault::kSize, EBADMSG, "", description.file_bytes, size};
  }
  return plan;
}

SharedArena::Attachment SharedArena::Enter(FileDescriptor file, Range mapping, Description description,
                                           const Books& books) {
  std::unique_ptr<SharedArena> arena(
      new SharedArena(std::move(file), std::move(mapping), std::move(description), books));
  const Self self = syscall::WhoAmI();
  // Before it first asks for the lock.
  if (!arena->IsMixed() && (self.pids == 0 || self.pids != arena->header_->pids)) {
    Write(arena->header_->is_mixed, 1U);
  }
  const Lock lock(*arena);
  if (lock.error() != 0) return Refusal{Fault::kLock, lock.error(), "pthread_mutex_lock"};
  std::optional<Refusal> refusal = arena->TakeSlot(self);
  if (refusal && refusal->fault == Fault::kOwners && arena->description_.reclaims &&
      arena->SweepLocked().blocks > 0) {
    refusal = arena->TakeSlot(self);
  }
  if (refusal) return *refusal;
  return arena;
}

SharedArena::SharedArena(FileDescriptor file, Range mapping, Description description, const Books& books)
    : file_(std::move(file)),
      mapping_(std::move(mapping)),
      description_(std::move(description)),
      books_(books) {
  const Layout layout(description_.shape);
  std::byte* const base = mapping_.data();
  header_ = reinterpret_cast<Header*>(base);
  slots_ = reinterpret_cast<Slot*>(base + Layout::kSlots);
  tags_ = reinterpret_cast<TagName*>(base + Layout::kTags);
  records_ =
      Records(&header_->records, base + layout.heads, base + layout.nodes, description_.shape.granules);
}

SharedArena::~SharedArena() {
  // A process that is just being forked has the description, too, so its end alone would come too late.
  if (owner_ != 0) static_cast<void>(syscall::UnlockByte(file_.get(), kFirstOwnerByte + owner_));
}

std::optional<Refusal> SharedArena::TakeSlot(const Self& self) {
  for (std::uint32_t number = 1; number <= kMostOwners; ++number) {
    Slot& slot = slots_[number];
    const bool is_new = number > SlotCount();
    if (!is_new && slot.blocks != 0) continue;
    if (const auto failure = syscall::LockByte(file_.get(), kFirstOwnerByte + number, false)) {
      if (failure->error == EAGAIN || failure->error == EACCES) continue;
      return Refuse(*failure);
    }
    if (const int error = Back(&slot, sizeof slot); error != 0) {
      static_cast<void>(syscall::UnlockByte(file_.get(), kFirstOwnerByte + number));
      return Refusal{Fault::kNone, error, "fallocate"};
    }
    Slot mine{};
    mine.process = self.process;
    mine.thread = self.thread;
    mine.started = self.started;
    std::copy(std::begin(self.name), std::end(self.name), mine.name);
    Note(slot, mine);
    if (is_new) Note(header_->slots, number);
    owner_ = number;
    return std::nullopt;
  }
  return Refusal{Fault::kOwners, EUSERS};
}

bool SharedArena::IsAlive(std::uint32_t owner) const {
  if (owner == owner_) return true;
  const auto locked = syscall::IsByteLocked(file_.get(), kFirstOwnerByte + owner);
  const auto* const is_locked = std::get_if<bool>(&locked);
  // Who cannot be asked is not to lose anything.
  return is_locked == nullptr || *is_locked;
}

bool SharedArena::IsMixed() const {
  return std::atomic_ref(header_->is_mixed).load(std::memory_order_relaxed) != 0;
}

std::uint32_t SharedArena::SlotCount() const {
  return std::min(header_->slots, kMostOwners);
}
std::uint32_t SharedArena::TagCount() const {
  return std::min(header_->tags, kMostTags);
}

int SharedArena::Back(const void* from, std::size_t bytes) {
  const auto offset = static_cast<const std::byte*>(from) - mapping_.data();
  IOSPACE_ARENA_BEFORE_WRITE();
  const auto failure = syscall::Allocate(file_.get(), offset, static_cast<off_t>(bytes));
  return failure ? failure->error : 0;
}

void SharedArena::Begin() {
  Write(header_->operation, std::max(owner_, 1U));
}
void SharedArena::End() {
  Write(header_->operation, 0U);
}

void SharedArena::Repair() {
  Begin();
  books_.Repair();
  auto counts = kNoCounts;
  if (header_->tags > kMostTags) Note(header_->tags, kMostTags);
  records_.Repair(books_, header_->tags, counts);
  std::uint32_t slots = SlotCount();
  for (std::uint32_t number = 1; number <= kMostOwners; ++number) {
    if (counts[number] != 0) slots = std::max(slots, number);
  }
  if (header_->slots != slots) Note(header_->slots, slots);
  for (std::uint32_t number = 1; number <= slots; ++number) {
    if (slots_[number].blocks != counts[number]) Note(slots_[number].blocks, counts[number]);
  }
  End();
}

Outcome SharedArena::Try(const Request& request, std::uint32_t tag) {
  Outcome outcome;
  if (tag > TagCount()) {
    outcome.code = Code::kInvalid;
    return outcome;
  }
  if (description_.max_blocks != 0 && books_.block_count() >= description_.max_blocks) {
    outcome.code = Code::kTooManyBlocks;
    return outcome;
  }
  Begin();
  if (!records_.HasRoom()) {
    const std::span<std::byte> room = records_.NextRoom();
    outcome.error = Back(room.data(), room.size());
    if (outcome.error != 0) {
      outcome.code = Code::kNoBooks;
      End();
      return outcome;
    }
    records_.AddRoom(room);
  }
  const Answer answer = books_.Allocate(request);
  if (answer.status != Status::kOk) {
    outcome.code = answer.status == Status::kNoSpace   ? Code::kNoSpace
                   : answer.status == Status::kInvalid ? Code::kInvalid
                                                       : Code::kDamaged;
    outcome.free = description_.shape.granules - books_.used_count();
    outcome.longest = answer.length;
    End();
    return outcome;
  }
  const auto record = records_.Add(answer.start, owner_, tag);
  if (!record) {
    books_.Free(answer.start);
    outcome.code = Code::kDamaged;
    End();
    return outcome;
  }
  Note(slots_[owner_].blocks, slots_[owner_].blocks + 1);
  End();
  outcome.start = answer.start;
  outcome.length = answer.length;
  outcome.serial = record->serial;
  outcome.owner = owner_;
  outcome.tag = tag;
  return outcome;
}

/// Whether an allocation that found no space may find some now.
bool SharedArena::MakesRoomFor(const Outcome& outcome) {
  const bool is_short = outcome.code == Code::kNoSpace || outcome.code == Code::kTooManyBlocks;
  return is_short && description_.reclaims && SweepLocked().blocks > 0;
}

Outcome SharedArena::Allocate(const Request& request, std::uint32_t tag) {
  const Lock lock(*this);
  if (lock.error() != 0) return NoLock(lock.error());
  Outcome outcome = Try(request, tag);
  if (MakesRoomFor(outcome)) outcome = Try(request, tag);
  return outcome;
}

/// All of them or none.
Outcome SharedArena::TryMany(const Request& request, std::uint32_t tag, std::span<double> starts,
                             std::span<double> serials) {
  Outcome outcome;
  const std::size_t count = std::min(starts.size(), serials.size());
  for (std::size_t i = 0; i < count; ++i) {
    outcome = Try(request, tag);
    if (outcome.code != Code::kDone) {
      while (i-- > 0) {
        const auto start = static_cast<std::uint64_t>(starts[i]);
        FreeFound(start, records_.Find(start));
      }
      // What there is without those that were just given back; nothing else reads the rest of the answer.
      if (outcome.code == Code::kNoSpace) {
        Stats stats;
        if (books_.Measure(stats).status == Status::kOk) {
          outcome.free = stats.free;
          outcome.longest = stats.longest;
        }
      }
      break;
    }
    starts[i] = static_cast<double>(outcome.start);
    serials[i] = outcome.serial;
  }
  return outcome;
}

Outcome SharedArena::AllocateMany(const Request& request, std::uint32_t tag, std::span<double> starts,
                                  std::span<double> serials) {
  const Lock lock(*this);
  if (lock.error() != 0) return NoLock(lock.error());
  Outcome outcome = TryMany(request, tag, starts, serials);
  // From the first on: those that were placed around the blocks of the dead may be what leaves no run for the
  // rest.
  if (MakesRoomFor(outcome)) outcome = TryMany(request, tag, starts, serials);
  return outcome;
}

/// The record of the block that starts there, if this owner may free it.
std::optional<Records::Place> SharedArena::MayFree(std::uint64_t start, std::uint32_t serial,
                                                   bool force) const {
  if (start >= description_.shape.granules) return std::nullopt;
  const Records::Place place = records_.Find(start);
  const bool is_same = serial == 0 || place.record.serial == serial;
  const bool may = force || place.record.owner == owner_;
  if (place.state != Records::Place::State::kFound || !is_same || !may) return std::nullopt;
  return place;
}

Outcome SharedArena::WhyNotFreed(std::uint64_t start, std::uint32_t serial) {
  Outcome outcome = BlockAtLocked(start);
  if (outcome.code != Code::kDone) return outcome;
  outcome.code = outcome.start != start                    ? Code::kInside
                 : serial != 0 && outcome.serial != serial ? Code::kStale
                                                           : Code::kOtherOwner;
  return outcome;
}

/// Frees the block that starts there, whose place is that of its record.
Outcome SharedArena::FreeFound(std::uint64_t start, const Records::Place& place) {
  Outcome outcome;
  if (place.state != Records::Place::State::kFound) {
    outcome.code = Code::kDamaged;
    return outcome;
  }
  Begin();
  const Answer answer = books_.Free(start);
  outcome = Found(answer, place);
  if (answer.status == Status::kOk) {
    records_.Remove(place);
    std::uint32_t& blocks = slots_[place.record.owner].blocks;
    if (blocks != 0) Note(blocks, blocks - 1);
  } else {
    outcome.code = Code::kDamaged;
  }
  End();
  return outcome;
}

Outcome SharedArena::BlockAtLocked(std::uint64_t granule) {
  Outcome outcome;
  const Answer answer = books_.BlockAt(granule);
  if (answer.status != Status::kOk) {
    const Answer run = books_.FreeRunAt(granule);
    outcome.code = Code::kNotAllocated;
    outcome.start = run.start;
    outcome.length = run.length;
    return outcome;
  }
  const Records::Place place = records_.Find(answer.start);
  outcome = Found(answer, place);
  if (place.state != Records::Place::State::kFound) outcome.code = Code::kDamaged;
  return outcome;
}

Outcome SharedArena::BlockAt(std::uint64_t granule) {
  const Lock lock(*this);
  if (lock.error() != 0) return NoLock(lock.error());
  return BlockAtLocked(granule);
}

Outcome SharedArena::Free(std::uint64_t start, std::uint32_t serial, bool force) {
  if (start < description_.shape.granules) {
    records_.Prefetch(start);
    books_.Prefetch(start);
  }
  const Lock lock(*this);
  if (lock.error() != 0) return NoLock(lock.error());
  const auto place = MayFree(start, serial, force);
  return place ? FreeFound(start, *place) : WhyNotFreed(start, serial);
}

Outcome SharedArena::FreeMany(std::span<const double> starts, std::span<const double> serials) {
  const Lock lock(*this);
  if (lock.error() != 0) return NoLock(lock.error());
  const std::size_t count = std::min(starts.size(), serials.size());
  const auto number = [](double value) {
    return value >= 0 && value <= UINT32_MAX ? static_cast<std::uint32_t>(value) : UINT32_MAX;
  };
  for (std::size_t i = 0; i < count; ++i) {
    if (MayFree(number(starts[i]), number(serials[i]), false)) continue;
    Outcome outcome = WhyNotFreed(number(starts[i]), number(serials[i]));
    outcome.index = static_cast<std::uint32_t>(i);
    return outcome;
  }
  Outcome outcome;
  for (std::size_t i = 0; i < count && outcome.code == Code::kDone; ++i) {
    outcome = FreeFound(number(starts[i]), records_.Find(number(starts[i])));
    outcome.index = static_cast<std::uint32_t>(i);
  }
  return outcome;
}

Outcome SharedArena::Tag(std::string_view name) {
  Outcome outcome;
  if (name.empty()) return outcome;
  if (name.size() > kLongestTag || name.find('\0') != std::string_view::npos) {
    outcome.code = Code::kInvalid;
    return outcome;
  }
  TagName entry{};
  std::copy(name.begin(), name.end(), entry.name);
  const Lock lock(*this);
  if (lock.error() != 0) return NoLock(lock.error());
  const std::uint32_t count = TagCount();
  for (std::uint32_t number = 1; number <= count; ++number) {
    if (std::memcmp(&tags_[number], &entry, sizeof entry) == 0) {
      outcome.tag = number;
      return outcome;
    }
  }
  if (count == kMostTags) {
    outcome.code = Code::kTooManyTags;
    return outcome;
  }
  outcome.error = Back(&tags_[count + 1], sizeof entry);
  if (outcome.error != 0) {
    outcome.code = Code::kNoBooks;
    return outcome;
  }
  Note(tags_[count + 1], entry);
  Write(header_->tags, count + 1);
  outcome.tag = count + 1;
  return outcome;
}

std::vector<std::string> SharedArena::Tags() {
  std::vector<std::string> tags(1);
  const Lock lock(*this);
  if (lock.error() != 0) return tags;
  for (std::uint32_t number = 1; number <= TagCount(); ++number) {
    tags.emplace_back(tags_[number].name, ::strnlen(tags_[number].name, kLongestTag));
  }
  return tags;
}

Swept SharedArena::SweepLocked() {
  Swept swept;
  std::array<bool, kMostOwners + 1> is_dead{};
  for (std::uint32_t number = 1; number <= SlotCount(); ++number) {
    if (slots_[number].blocks == 0 || IsAlive(number)) continue;
    is_dead[number] = true;
    ++swept.owners;
  }
  if (swept.owners == 0) return swept;
  const std::uint64_t leaves = RoundUp(description_.shape.granules, kLeaf) / kLeaf;
  for (std::uint64_t leaf = 0; leaf < leaves; ++leaf) {
    for (std::uint64_t blocks = books_.BlocksIn(leaf); blocks != 0; blocks &= blocks - 1) {
      const std::uint64_t start = leaf * kLeaf + static_cast<std::uint64_t>(std::countr_zero(blocks));
      const Records::Place place = records_.Find(start);
      if (place.state != Records::Place::State::kFound || !is_dead[place.record.owner]) continue;
      const Outcome freed = FreeFound(start, place);
      if (freed.code != Code::kDone) {
        swept.code = freed.code;
        return swept;
      }
      ++swept.blocks;
      swept.granules += freed.length;
    }
  }
  return swept;
}

Swept SharedArena::Sweep() {
  const Lock lock(*this);
  if (lock.error() != 0) return {Code::kLock};
  return SweepLocked();
}

Measures SharedArena::Measure() {
  Measures measures;
  const Lock lock(*this);
  if (lock.error() != 0) {
    measures.code = Code::kLock;
    return measures;
  }
  Begin();
  books_.Measure(measures.stats);
  End();
  measures.by_owner.resize(kMostOwners + 1);
  measures.by_tag.resize(kMostTags + 1);
  EachBlock(0, [&](const Block& block) {
    for (Usage* usage : {&measures.by_owner[block.owner], &measures.by_tag[block.tag]}) {
      ++usage->blocks;
      usage->granules += block.length;
    }
    return true;
  });
  measures.by_owner.resize(SlotCount() + 1);
  measures.by_tag.resize(TagCount() + 1);
  return measures;
}

std::vector<Owner> SharedArena::Owners() {
  std::vector<Owner> owners;
  const Lock lock(*this);
  if (lock.error() != 0) return owners;
  for (std::uint32_t number = 1; number <= SlotCount(); ++number) {
    const Slot& slot = slots_[number];
    const bool is_alive = IsAlive(number);
    if (!is_alive && slot.blocks == 0) continue;
    owners.push_back({number, is_alive, slot.blocks, slot.process, slot.thread, slot.started,
                      std::string(slot.name, ::strnlen(slot.name, sizeof slot.name))});
  }
  return owners;
}

Report SharedArena::Check() {
  Report report;
  const Lock lock(*this);
  if (lock.error() != 0) {
    report.code = Code::kLock;
    return report;
  }
  report.books = books_.Check();
  auto counts = kNoCounts;
  RecordDifferences& records = report.records;
  records = records_.Check(books_, TagCount(), counts);
  const auto compare = [&records](RecordPart part, std::uint64_t index, std::uint64_t expected,
                                  std::uint64_t found) {
    if (expected != found && records.count++ == 0) records = {1, part, index, expected, found};
  };
  compare(RecordPart::kOwners, 0, SlotCount(), header_->slots);
  compare(RecordPart::kTags, 0, TagCount(), header_->tags);
  for (std::uint32_t number = 1; number <= kMostOwners; ++number) {
    compare(RecordPart::kOwners, number, counts[number], number <= SlotCount() ? slots_[number].blocks : 0);
  }
  return report;
}

/// Visits the blocks from that granule on, until the visitor has enough.
template <typename Visit>
void SharedArena::EachBlock(std::uint64_t from, Visit visit) {
  for (Answer answer = books_.BlockFrom(from); answer.status == Status::kOk;
       answer = books_.BlockFrom(answer.start + answer.length)) {
    const Record record = records_.Find(answer.start).record;
    if (!visit({answer.start, answer.length, record.serial, record.owner, record.tag})) return;
  }
}

std::size_t SharedArena::Blocks(std::uint64_t from, std::span<Block> blocks) {
  const Lock lock(*this);
  std::size_t count = 0;
  if (lock.error() != 0 || blocks.empty()) return count;
  EachBlock(from, [&](const Block& block) {
    blocks[count++] = block;
    return count < blocks.size();
  });
  return count;
}

Code SharedArena::Map(std::span<double> cells) {
  const Lock lock(*this);
  if (lock.error() != 0) return Code::kLock;
  const std::uint64_t granules = description_.shape.granules;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    // Products of a part and what is left over: no 64 bits overflow.
    const auto edge = [&](std::uint64_t cell) {
      return granules / cells.size() * cell + granules % cells.size() * cell / cells.size();
    };
    const std::uint64_t start = edge(i);
    const std::uint64_t end = std::max(edge(i + 1), std::min(start + 1, granules));
    cells[i] = static_cast<double>(books_.UsedIn(start, end)) / static_cast<double>(end - start);
  }
  return Code::kDone;
}

}  // namespace iospace::arena
