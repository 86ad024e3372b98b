#include "syscall.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>

namespace iospace {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Range::~Range() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

namespace syscall {
namespace {

// The functions below read errno before anything else can change it: their arguments are the call itself.

Status Done(int returned, const char* syscall) {
  if (returned == -1) return Failure{errno, syscall};
  return std::nullopt;
}

Result<FileDescriptor> Own(int returned, const char* syscall) {
  if (returned == -1) return Failure{errno, syscall};
  return FileDescriptor(returned);
}

Result<int> Value(int returned, const char* syscall) {
  if (returned == -1) return Failure{errno, syscall};
  return returned;
}

template <typename Call>
auto Uninterrupted(Call call) {
  auto returned = call();
  while (returned == -1 && errno == EINTR) returned = call();
  return returned;
}

/// Runs what may make a file longer than RLIMIT_FSIZE allows. The kernel sends a signal to this thread then,
/// which would end the process.
template <typename Call>
int WithoutSizeSignal(Call call) {
  sigset_t signal;
  sigset_t before;
  ::sigemptyset(&signal);
  ::sigaddset(&signal, SIGXFSZ);
  ::pthread_sigmask(SIG_BLOCK, &signal, &before);
  const int returned = call();
  const int error = errno;
  if (returned == -1 && error == EFBIG) {
    const timespec now = {};
    ::sigtimedwait(&signal, nullptr, &now);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return returned;
}

/// Whether what is mapped from `begin` on ends exactly at `end`; false where /proc does not say.
bool IsMapping(std::uintptr_t begin, std::uintptr_t end) {
  char path[sizeof "/proc/self/map_files/-" + 4 * sizeof begin];
  static_cast<void>(
      std::snprintf(path, sizeof path, "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, begin, end));
  struct stat status;
  return ::lstat(path, &status) == 0;
}

/// The end of what is mapped from `address` on; 0 where /proc does not say.
std::uintptr_t EndOfMapping(std::uintptr_t address) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> maps(std::fopen("/proc/self/maps", "re"),
                                                             std::fclose);
  if (maps == nullptr) return 0;
  char line[512];
  bool begins = true;
  while (std::fgets(line, sizeof line, maps.get()) != nullptr) {
    char* end = nullptr;
    // Longer lines come in parts.
    if (begins && std::strtoull(line, &end, 16) == address && *end == '-')
      return static_cast<std::uintptr_t>(std::strtoull(end + 1, nullptr, 16));
    begins = std::strchr(line, '\n') != nullptr;
  }
  return 0;
}

/// Bytes of the pages that a mapping of this file is made of.
std::size_t PageSizeOf(int fd) {
  struct statfs filesystem;
  constexpr auto kHugetlbfs = static_cast<decltype(filesystem.f_type)>(HUGETLBFS_MAGIC);
  if (fd >= 0 && ::fstatfs(fd, &filesystem) == 0 && filesystem.f_type == kHugetlbfs)
    return static_cast<std::size_t>(filesystem.f_bsize);
  return PageSize();
}

/// The address of a path that is known to fit.
sockaddr_un SocketAddress(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

struct flock ByteLock(short type, off_t byte) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

// Newer than the oldest headers that this is built with; the same on all architectures.
constexpr long kFutexWaitv = 449;
constexpr std::uint32_t kFutex32 = 2;
static_assert(sizeof(FutexWord) == 24);

constexpr std::int64_t kSecond = 1'000'000'000;

/// The time of the first futex call: of `long`, whatever the C library makes of its own.
struct OldTime {
  long seconds;
  long nanoseconds;
};

/// The time of all newer calls.
struct NewTime {
  std::int64_t seconds;
  std::int64_t nanoseconds;
};

/// Memory for the descriptors of one message, aligned as its header must be.
union Control {
  char bytes[CMSG_SPACE(kMostDescriptors * sizeof(int))];
  cmsghdr header;
};

}  // namespace

std::size_t PageSize() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

Self WhoAmI() {
  Self self = {};
  self.process = static_cast<std::uint32_t>(::getpid());
  self.thread = static_cast<std::uint32_t>(::syscall(SYS_gettid));
  struct stat status;
  if (::stat("/proc/self/ns/pid", &status) == 0) self.pids = static_cast<std::uint64_t>(status.st_ino);
  const auto opened = Open("/proc/self/stat", O_RDONLY, 0);
  const auto* const file = std::get_if<FileDescriptor>(&opened);
  char text[1024] = {};
  if (file == nullptr || ::read(file->get(), text, sizeof text - 1) <= 0) return self;
  // The name, the second field, may have any character. The 22nd is 20 spaces behind it.
  const char* const name = std::strchr(text, '(');
  const char* at = std::strrchr(text, ')');
  if (name == nullptr || at == nullptr) return self;
  std::memcpy(self.name, name + 1,
              std::min<std::size_t>(sizeof self.name - 1, static_cast<std::size_t>(at - name) - 1));
  for (int field = 0; at != nullptr && field < 20; ++field) at = std::strchr(at + 1, ' ');
  if (at != nullptr) self.started = std::strtoull(at, nullptr, 10);
  return self;
}

Result<FileDescriptor> Open(const char* path, int flags, mode_t mode) {
  return Own(::open(path, flags | O_CLOEXEC, mode), "open");
}

Result<FileDescriptor> Duplicate(int fd) {
  return Own(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl");
}

Result<FileDescriptor> ShmOpen(const char* name, int flags, mode_t mode) {
  // Everybody can put a FIFO in the place of an object, or lease one; it would block the thread.
  return Own(::shm_open(name, flags | O_CLOEXEC | O_NONBLOCK, mode), "shm_open");
}

Result<FileDescriptor> MemfdCreate(const char* name, unsigned flags) {
  return Own(::memfd_create(name, flags | MFD_CLOEXEC), "memfd_create");
}

Result<FileDescriptor> Eventfd(unsigned initial, int flags) {
  return Own(::eventfd(initial, flags | EFD_CLOEXEC), "eventfd");
}

Status Close(int fd) {
  Status status = Done(::close(fd), "close");
  // On Linux the descriptor is gone even so, and its number may already be someone else's.
  if (status && status->error == EINTR) return std::nullopt;
  return status;
}

Status LinkFile(int fd, const char* path) {
  // By the file's place in /proc: AT_EMPTY_PATH, which needs none, takes a capability.
  const std::string file = "/proc/self/fd/" + std::to_string(fd);
  return Done(::linkat(AT_FDCWD, file.c_str(), AT_FDCWD, path, AT_SYMLINK_FOLLOW), "linkat");
}

Status ShmUnlink(const char* name) {
  return Done(::shm_unlink(name), "shm_unlink");
}

Status Truncate(int fd, off_t length) {
  const auto call = [=] { return Uninterrupted([=] { return ::ftruncate(fd, length); }); };
  return Done(WithoutSizeSignal(call), "ftruncate");
}

Status Allocate(int fd, off_t offset, off_t length) {
  const auto call = [=] { return Uninterrupted([=] { return ::fallocate(fd, 0, offset, length); }); };
  return Done(WithoutSizeSignal(call), "fallocate");
}

Result<int> Ioctl(int fd, unsigned long request, void* argument) {
  return Value(::ioctl(fd, request, argument), "ioctl");
}

Result<int> Poll(std::span<pollfd> descriptors, int timeout) {
  return Value(::poll(descriptors.data(), descriptors.size(), timeout), "poll");
}

Result<std::size_t> Read(int fd, std::span<std::byte> bytes) {
  const ssize_t returned = Uninterrupted([=] { return ::read(fd, bytes.data(), bytes.size()); });
  if (returned == -1) return Failure{errno, "read"};
  return static_cast<std::size_t>(returned);
}

Result<std::size_t> ReadAt(int fd, std::span<std::byte> bytes, off_t offset) {
  const ssize_t returned = Uninterrupted([=] { return ::pread(fd, bytes.data(), bytes.size(), offset); });
  if (returned == -1) return Failure{errno, "pread"};
  return static_cast<std::size_t>(returned);
}

Result<FileIdentity> Identify(int directory, const char* name) {
  struct stat status;
  if (::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == -1) return Failure{errno, "fstatat"};
  return FileIdentity{status.st_dev, status.st_ino, status.st_mode};
}

Status Unlink(int directory, const char* name) {
  return Done(::unlinkat(directory, name, 0), "unlinkat");
}

Status LockFile(int fd) {
  return Done(::flock(fd, LOCK_EX | LOCK_NB), "flock");
}

Result<FileDescriptor> Reopen(int fd) {
  // Of one that is not open, /proc would say that there is no such file.
  if (::fcntl(fd, F_GETFD) == -1) return Failure{errno, "fcntl"};
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return Open(path.c_str(), O_RDWR, 0);
}

Status LockByte(int fd, off_t byte, bool wait) {
  struct flock lock = ByteLock(F_WRLCK, byte);
  return Done(Uninterrupted([&] { return ::fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock); }), "fcntl");
}

Status UnlockByte(int fd, off_t byte) {
  struct flock lock = ByteLock(F_UNLCK, byte);
  return Done(::fcntl(fd, F_OFD_SETLK, &lock), "fcntl");
}

Result<bool> IsByteLocked(int fd, off_t byte) {
  struct flock lock = ByteLock(F_WRLCK, byte);
  if (::fcntl(fd, F_OFD_GETLK, &lock) == -1) return Failure{errno, "fcntl"};
  return lock.l_type != F_UNLCK;
}

Result<FileExtent> Extent(int fd) {
  struct stat status;
  if (::fstat(fd, &status) == -1) return Failure{errno, "fstat"};
  return FileExtent{static_cast<std::uint64_t>(status.st_size),
                    static_cast<std::uint64_t>(status.st_blksize)};
}

Status Seal(int fd, int seals) {
  return Done(::fcntl(fd, F_ADD_SEALS, seals), "fcntl");
}

Result<int> Seals(int fd) {
  return Value(::fcntl(fd, F_GET_SEALS), "fcntl");
}

Result<bool> IsSoleOpener(int fd) {
  // Who opens the file while the lease is held waits, and the holder gets a signal: SIGIO would end it.
  if (::fcntl(fd, F_SETSIG, SIGURG) != 0) return Failure{errno, "fcntl"};
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) {
    const int error = errno;
    if (error == EAGAIN) return false;
    return Failure{error, "fcntl"};
  }
  if (::fcntl(fd, F_SETLEASE, F_UNLCK) != 0) return Failure{errno, "fcntl"};
  return true;
}

Result<key_t> KeyOf(const char* path, int id) {
  errno = 0;
  const key_t key = ::ftok(path, id);
  if (key == -1 && errno != 0) return Failure{errno, "ftok"};
  return key;
}

Result<int> GetSegment(key_t key, std::size_t size, int flags) {
  return Value(::shmget(key, size, flags), "shmget");
}

Result<Attachment> AttachSegment(int id, int flags) {
  void* const address = ::shmat(id, nullptr, flags);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the C library's word for a failure.
  if (address == reinterpret_cast<void*>(-1)) return Failure{errno, "shmat"};
  // Asked for only now: while it is attached, the id cannot become another segment's.
  const Result<shmid_ds> status = SegmentStatus(id);
  if (const auto* failure = std::get_if<Failure>(&status)) {
    const Failure reason = *failure;
    ::shmdt(address);
    return reason;
  }
  const std::size_t length = std::get<shmid_ds>(status).shm_segsz;
  const std::size_t page = PageSize();
  std::size_t mapped = (length + page - 1) & ~(page - 1);
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  // Huge pages, which nothing else tells of, are mapped as a whole. The list of all mappings is long.
  if (!IsMapping(begin, begin + mapped))
    if (const std::uintptr_t end = EndOfMapping(begin); end > begin) mapped = end - begin;
  return Attachment{Range({static_cast<std::byte*>(address), mapped}), length};
}

Result<shmid_ds> SegmentStatus(int id) {
  shmid_ds status = {};
  if (::shmctl(id, IPC_STAT, &status) == -1) return Failure{errno, "shmctl"};
  return status;
}

Status SetSegment(int id, shmid_ds status) {
  return Done(::shmctl(id, IPC_SET, &status), "shmctl");
}

Status ControlSegment(int id, int command) {
  return Done(::shmctl(id, command, nullptr), "shmctl");
}

Result<shminfo> SegmentLimits() {
  shminfo limits = {};
  // The call takes all of its answers through one type of pointer.
  if (::shmctl(0, IPC_INFO, reinterpret_cast<shmid_ds*>(&limits)) == -1) return Failure{errno, "shmctl"};
  return limits;
}

Result<shm_info> SegmentUsage() {
  shm_info usage = {};
  if (::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&usage)) == -1) return Failure{errno, "shmctl"};
  return usage;
}

Result<FileDescriptor> Socket() {
  return Own(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
}

std::size_t LongestSocketPath() {
  return sizeof sockaddr_un::sun_path - 1;
}

Status Bind(int fd, const char* path, mode_t mode) {
  // bind() gives the file the permissions of the socket itself. chmod() afterwards would come too late.
  if (Status failure = Done(::fchmod(fd, mode), "fchmod")) return failure;
  const sockaddr_un address = SocketAddress(path);
  return Done(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
}

Status Listen(int fd, int backlog) {
  return Done(::listen(fd, backlog), "listen");
}

Status Connect(int fd, const char* path) {
  const sockaddr_un address = SocketAddress(path);
  return Done(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
}

Result<FileDescriptor> Accept(int fd) {
  return Own(::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC), "accept");
}

Status Send(int fd, std::span<const std::byte> bytes, std::span<const int> descriptors) {
  // sendmsg() reads through the pointer only.
  iovec part = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  Control control = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  const auto send = [&] { return ::sendmsg(fd, &message, MSG_NOSIGNAL); };
  if (Uninterrupted(send) == -1) return Failure{errno, "sendmsg"};
  return std::nullopt;
}

Result<Message> Receive(int fd, std::span<std::byte> bytes) {
  iovec part = {bytes.data(), bytes.size()};
  Control control = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  const ssize_t returned = Uninterrupted([&] { return ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC); });
  if (returned == -1) return Failure{errno, "recvmsg"};

  Message message = {static_cast<std::size_t>(returned), {}, (header.msg_flags & MSG_CTRUNC) != 0};
  message.descriptors.reserve(kMostDescriptors);
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t offset = CMSG_LEN(0); offset < part->cmsg_len; offset += sizeof(int)) {
      int descriptor = -1;
      std::memcpy(&descriptor, reinterpret_cast<char*>(part) + offset, sizeof descriptor);
      message.descriptors.emplace_back(descriptor);
    }
  }
  return message;
}

Result<Range> Map(int fd, std::size_t length, int protection, int flags, off_t offset) {
  const std::size_t page = PageSizeOf(fd);
  if (length > SIZE_MAX - (page - 1)) return Failure{ENOMEM, "mmap"};
  const std::size_t rounded = (length + page - 1) & ~(page - 1);
  void* const address = ::mmap(nullptr, rounded, protection, flags, fd, offset);
  if (address == MAP_FAILED) return Failure{errno, "mmap"};
  return Range({static_cast<std::byte*>(address), rounded});
}

Status Replace(const Range& range, int protection) {
  void* const address = ::mmap(range.data(), range.size(), protection,
                               MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return Failure{errno, "mmap"};
  return std::nullopt;
}

Status Protect(std::span<std::byte> bytes, int protection) {
  return Done(::mprotect(bytes.data(), bytes.size(), protection), "mprotect");
}

Status Sync(std::span<std::byte> bytes, int flags) {
  return Done(::msync(bytes.data(), bytes.size(), flags), "msync");
}

Status Advise(std::span<std::byte> bytes, int advice) {
  return Done(::madvise(bytes.data(), bytes.size(), advice), "madvise");
}

Status Lock(std::span<std::byte> bytes) {
  return Done(::mlock(bytes.data(), bytes.size()), "mlock");
}

Status Unlock(std::span<std::byte> bytes) {
  return Done(::munlock(bytes.data(), bytes.size()), "munlock");
}

Result<Slept> FutexWait(const std::uint32_t* word, std::uint32_t expected, std::int64_t nanoseconds) {
  const OldTime time = {static_cast<long>(nanoseconds / kSecond), static_cast<long>(nanoseconds % kSecond)};
  if (::syscall(SYS_futex, word, FUTEX_WAIT, expected, &time, nullptr, 0) == 0) return Slept::kWoken;
  const int error = errno;
  if (error == EAGAIN) return Slept::kNotEqual;
  if (error == ETIMEDOUT || error == EINTR) return Slept::kTimedOut;
  return Failure{error, "futex"};
}

Result<int> FutexWake(const std::uint32_t* word, int count) {
  return Value(static_cast<int>(::syscall(SYS_futex, word, FUTEX_WAKE, count, nullptr, nullptr, 0)), "futex");
}

FutexWord::FutexWord(const std::uint32_t* word, std::uint32_t expected)
    : expected(expected), address(reinterpret_cast<std::uintptr_t>(word)), flags(kFutex32) {}

Result<std::size_t> FutexWaitMany(std::span<const FutexWord> words, std::int64_t deadline) {
  const NewTime time = {deadline / kSecond, deadline % kSecond};
  const long returned = ::syscall(kFutexWaitv, words.data(), words.size(), 0,
                                  deadline == INT64_MAX ? nullptr : &time, CLOCK_MONOTONIC);
  if (returned == -1) return Failure{errno, "futex_waitv"};
  return static_cast<std::size_t>(returned);
}

bool HasFutexWaitMany() {
  // No words are EINVAL; a container may refuse the call as EPERM.
  const auto slept = FutexWaitMany({}, INT64_MAX);
  const auto* const failure = std::get_if<Failure>(&slept);
  return failure != nullptr && failure->error == EINVAL;
}

std::int64_t Now() {
  timespec time = {};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * kSecond + time.tv_nsec;
}

}  // namespace syscall
}  // namespace iospace
