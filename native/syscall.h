/// The only system calls of the addon, and the owners of what they return.
///
/// Knows nothing of JavaScript. An owner is move-only and its release cannot fail.
#pragma once

#include <poll.h>
#include <sys/shm.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

namespace iospace {

/// A system call that failed: errno, read in the statement after the call, and the call's name.
struct Failure {
  int error;
  const char* syscall;
};

/// What a system call gave, or why it gave nothing.
template <typename T>
using Result = std::variant<T, Failure>;

/// The outcome of a call that gives nothing.
using Status = std::optional<Failure>;

/// Owns a descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.Detach()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor();

  int get() const { return fd_; }
  /// Hands the descriptor to the caller, who closes it.
  int Detach() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// Owns an address range of whole pages, whatever is mapped there.
class Range {
 public:
  Range() = default;
  explicit Range(std::span<std::byte> bytes) : bytes_(bytes) {}
  Range(Range&& other) noexcept : bytes_(other.Detach()) {}
  Range& operator=(Range&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range();

  std::byte* data() const { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  /// Hands the range to the caller, who unmaps it.
  std::span<std::byte> Detach() { return std::exchange(bytes_, {}); }

 private:
  std::span<std::byte> bytes_;
};

/// One message of a Unix socket, and the descriptors that came with it.
struct Message {
  /// Bytes of it, all of which fitted or not; 0 where the other side has closed.
  std::size_t length;
  std::vector<FileDescriptor> descriptors;
  /// Whether there were more descriptors than this process may have open. The kernel has closed the others.
  bool truncated;
};

/// What a name in a directory stands for, to be recognized again.
struct FileIdentity {
  dev_t device;
  ino_t inode;
  mode_t mode;
  bool operator==(const FileIdentity&) const = default;
};

/// How long a file is, and of what blocks it is best taken: a page, also one of hugetlbfs.
struct FileExtent {
  std::uint64_t size;
  std::uint64_t block;
};

/// A segment of System V shared memory where it is attached.
struct Attachment {
  Range range;
  std::size_t length;  ///< As its maker asked for; the range is whole pages of it.
};

/// Who runs this, as others may show it. Numbers are those of its own namespace.
struct Self {
  std::uint32_t process;
  std::uint32_t thread;
  std::uint64_t
      started;         ///< When the process started, in clock ticks since boot; 0 where /proc does not say.
  std::uint64_t pids;  ///< The namespace of these numbers; 0 where /proc does not say.
  char name[16];       ///< As ps shows it.
};

namespace syscall {

std::size_t PageSize();
Self WhoAmI();

// Descriptors are close-on-exec.
Result<FileDescriptor> Open(const char* path, int flags, mode_t mode);
Result<FileDescriptor> Duplicate(int fd);
Result<FileDescriptor> ShmOpen(const char* name, int flags, mode_t mode);
Result<FileDescriptor> MemfdCreate(const char* name, unsigned flags);
Result<FileDescriptor> Eventfd(unsigned initial, int flags);
Status Close(int fd);
/// Gives an open file that has no name one.
Status LinkFile(int fd, const char* path);
Status ShmUnlink(const char* name);
// Beyond RLIMIT_FSIZE these are EFBIG, and not the signal that ends the process.
Status Truncate(int fd, off_t length);
Status Allocate(int fd, off_t offset, off_t length);
Result<int> Ioctl(int fd, unsigned long request, void* argument);
Result<int> Poll(std::span<pollfd> descriptors, int timeout);
Result<std::size_t> Read(int fd, std::span<std::byte> bytes);
Result<std::size_t> ReadAt(int fd, std::span<std::byte> bytes, off_t offset);

// Files of a directory, by name. A symbolic link is not followed.
Result<FileIdentity> Identify(int directory, const char* name);
Status Unlink(int directory, const char* name);
/// Takes the lock of an open file that others of this kind leave alone; EWOULDBLOCK while somebody has it.
Status LockFile(int fd);

// Locks of one byte, which belong to the open file description: they end with it, or by UnlockByte(). The
// byte need not be in the file.
/// Opens the file anew, for reading and writing, with a description of its own.
Result<FileDescriptor> Reopen(int fd);
/// EAGAIN while another description has it, unless this is to wait.
Status LockByte(int fd, off_t byte, bool wait);
Status UnlockByte(int fd, off_t byte);
/// Whether another description has it.
Result<bool> IsByteLocked(int fd, off_t byte);

Result<FileExtent> Extent(int fd);
Status Seal(int fd, int seals);
Result<int> Seals(int fd);
/// Whether nobody but this one descriptor has its file open, mapped or underway in a message, whatever the
/// namespace. EACCES for who does not own the file.
Result<bool> IsSoleOpener(int fd);

// Segments of System V shared memory.
/// What ftok() makes of them. Its answer for an error can also be a key.
Result<key_t> KeyOf(const char* path, int id);
Result<int> GetSegment(key_t key, std::size_t size, int flags);
/// Attaches at an address that the kernel chooses.
Result<Attachment> AttachSegment(int id, int flags);
Result<shmid_ds> SegmentStatus(int id);
/// Sets owner, group and permissions.
Status SetSegment(int id, shmid_ds status);
/// IPC_RMID, SHM_LOCK, SHM_UNLOCK.
Status ControlSegment(int id, int command);
Result<shminfo> SegmentLimits();
Result<shm_info> SegmentUsage();

/// Most descriptors of one message: the kernel's SCM_MAX_FD.
inline constexpr std::size_t kMostDescriptors = 253;

// Unix sockets of sequenced packets. They do not block, and are close-on-exec, as is what they receive.
Result<FileDescriptor> Socket();
/// Longest path that bind() and connect() take.
std::size_t LongestSocketPath();
/// Makes the socket's file, with the permissions `mode` as far as the umask leaves them.
Status Bind(int fd, const char* path, mode_t mode);
Status Listen(int fd, int backlog);
Status Connect(int fd, const char* path);
Result<FileDescriptor> Accept(int fd);
Status Send(int fd, std::span<const std::byte> bytes, std::span<const int> descriptors);
Result<Message> Receive(int fd, std::span<std::byte> bytes);

/// Maps at an address that the kernel chooses. The range is `length` rounded up to the pages of what is
/// mapped, which for hugetlbfs are not those of PageSize().
Result<Range> Map(int fd, std::size_t length, int protection, int flags, off_t offset);
/// Puts anonymous memory, zero and taken from nowhere until it is touched, in the place of what is mapped
/// in `range`. On failure the range is as it was.
Status Replace(const Range& range, int protection);

Status Protect(std::span<std::byte> bytes, int protection);
Status Sync(std::span<std::byte> bytes, int flags);
Status Advise(std::span<std::byte> bytes, int advice);
Status Lock(std::span<std::byte> bytes);
Status Unlock(std::span<std::byte> bytes);

// Futexes: sleep while a 32-bit word has a value, in whatever process it is mapped. The kernel alone reads
// the word: one that is not mapped is EFAULT, one that is not aligned is EINVAL.
/// What ended a sleep. A signal ends it as its time does. The numbers are known to lib/shm/futex.ts.
enum class Slept { kWoken = 0, kNotEqual = 1, kTimedOut = 2 };
/// Sleeps at most `nanoseconds`.
Result<Slept> FutexWait(const std::uint32_t* word, std::uint32_t expected, std::int64_t nanoseconds);
/// Wakes at most `count` sleepers; returns how many it has woken.
Result<int> FutexWake(const std::uint32_t* word, int count);

/// One of the words of FutexWaitMany(), as the kernel has it: its struct futex_waitv.
struct FutexWord {
  FutexWord() = default;
  FutexWord(const std::uint32_t* word, std::uint32_t expected);

  std::uint64_t expected = 0;
  std::uint64_t address = 0;
  std::uint32_t flags = 0;
  std::uint32_t reserved = 0;
};
/// Most words of one FutexWaitMany(): the kernel's FUTEX_WAITV_MAX.
inline constexpr std::size_t kMostFutexWords = 128;
/// Sleeps until one of the words is woken, at most until the monotonic time `deadline` (ns; INT64_MAX: no
/// end). Returns its index, the highest where several were woken. EAGAIN if a word has another value than
/// expected, ETIMEDOUT, EINTR; Linux 5.16 and later.
Result<std::size_t> FutexWaitMany(std::span<const FutexWord> words, std::int64_t deadline);
/// Whether this system has FutexWaitMany().
bool HasFutexWaitMany();
/// Nanoseconds of the monotonic clock.
std::int64_t Now();

}  // namespace syscall
}  // namespace iospace
