#include "syscall.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

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

/// Bytes of the pages that a mapping of this file is made of.
std::size_t PageSizeOf(int fd) {
  struct statfs filesystem;
  if (fd >= 0 && ::fstatfs(fd, &filesystem) == 0 && filesystem.f_type == HUGETLBFS_MAGIC)
    return static_cast<std::size_t>(filesystem.f_bsize);
  return PageSize();
}

}  // namespace

std::size_t PageSize() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

Result<FileDescriptor> Open(const char* path, int flags, mode_t mode) {
  return Own(::open(path, flags | O_CLOEXEC, mode), "open");
}

Result<FileDescriptor> Duplicate(int fd) {
  return Own(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl");
}

Result<FileDescriptor> ShmOpen(const char* name, int flags, mode_t mode) {
  return Own(::shm_open(name, flags | O_CLOEXEC, mode), "shm_open");
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

Status ShmUnlink(const char* name) {
  return Done(::shm_unlink(name), "shm_unlink");
}

Status Truncate(int fd, off_t length) {
  return Done(Uninterrupted([=] { return ::ftruncate(fd, length); }), "ftruncate");
}

Status Allocate(int fd, off_t offset, off_t length) {
  return Done(Uninterrupted([=] { return ::fallocate(fd, 0, offset, length); }), "fallocate");
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

}  // namespace syscall
}  // namespace iospace
