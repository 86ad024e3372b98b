#include "device.h"

#include <uapi/iospace.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <string_view>

#include "arguments.h"
#include "error.h"
#include "pause.h"
#include "syscall.h"

namespace iospace {
namespace {

// The structures are the same for 32-bit and 64-bit programs.
static_assert(sizeof(iospace_info) == 200);
static_assert(sizeof(iospace_alloc) == 88);
static_assert(sizeof(iospace_segment) == 16);
static_assert(sizeof(iospace_segments) == 32);
static_assert(sizeof(iospace_sync) == 32);
static_assert(sizeof(iospace_sync_range) == 16);
static_assert(sizeof(iospace_sync_ranges) == 24);
static_assert(sizeof(iospace_map_user) == 48);
static_assert(sizeof(iospace_export) == 32);
static_assert(sizeof(iospace_import) == 48);
static_assert(sizeof(iospace_free) == 16);
static_assert(sizeof(iospace_arena) == 80);
static_assert(sizeof(iospace_arena_books) == 16);
static_assert(sizeof(iospace_window) == 48);
static_assert(sizeof(iospace_registers) == 72);
static_assert(sizeof(iospace_register_access) == 32);
static_assert(sizeof(iospace_interrupt) == 64);
static_assert(sizeof(iospace_status) == 8);

/// A structure that knows its size, all else zero.
template <typename Structure>
Structure Sized() {
  Structure structure = {};
  structure.size = sizeof structure;
  return structure;
}

template <typename Structure>
void Call(Napi::Env env, int fd, std::uint32_t request, Structure& structure,
          std::optional<std::uint64_t> address = {}) {
  Take(env, syscall::Ioctl(fd, request, &structure), {.address = address, .request = request});
}

/// A number of bytes that JavaScript gives as a number.
std::uint64_t ByteCount(Napi::Value value, const char* name) {
  return static_cast<std::uint64_t>(Integer(value, name, 0, kMaxSafeInteger));
}

/// A 64-bit number of bytes that JavaScript takes as a number.
Napi::Number ToNumber(Napi::Env env, std::uint64_t bytes) {
  return Napi::Number::New(env, static_cast<double>(bytes));
}

/// Text in a field of fixed size, NUL-terminated unless it fills the field.
template <std::size_t size>
Napi::String FieldText(Napi::Env env, const char (&field)[size]) {
  const std::string_view text(field, size);
  return Napi::String::New(env, field, std::min(text.find('\0'), size));
}

Napi::Value Info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto device = Sized<iospace_info>();
  Call(env, Descriptor(info[0], "fd"), IOSPACE_INFO, device);

  Napi::Object result = Napi::Object::New(env);
  result["version"] = Napi::Number::New(env, device.out_version);
  result["bus"] = Napi::Number::New(env, device.out_bus);
  result["iommu"] = Napi::Number::New(env, device.out_iommu);
  result["coherent"] = Napi::Boolean::New(env, device.out_coherent != 0);
  result["memoryTypes"] = Napi::Number::New(env, device.out_memory_types);
  result["pageSize"] = Napi::Number::New(env, device.out_page_size);
  result["cacheLine"] = Napi::Number::New(env, device.out_cache_line);
  result["registers"] = Napi::Number::New(env, device.out_registers);
  result["vectors"] = Napi::Number::New(env, device.out_vectors);
  result["zones"] = Napi::Number::New(env, device.out_zones);
  result["pool"] = Napi::Number::New(env, device.out_pool);
  result["arenas"] = Napi::Number::New(env, device.out_arenas);
  result["arenaMaxBlocks"] = Napi::Number::New(env, device.out_arena_max_blocks);
  result["maxFileMappings"] = Napi::Number::New(env, device.out_max_file_mappings);
  result["dmaMask"] = Napi::BigInt::New(env, std::uint64_t{device.out_dma_mask});
  result["maxFileBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_max_file_bytes});
  result["maxTotalBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_max_total_bytes});
  result["maxConvertedBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_max_converted_bytes});
  result["maxSegmentBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_max_segment_bytes});
  result["maxContiguousBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_max_contiguous_bytes});
  result["poolStart"] = Napi::BigInt::New(env, std::uint64_t{device.out_pool_start});
  result["poolBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_pool_bytes});
  result["arenaReserveBytes"] = Napi::BigInt::New(env, std::uint64_t{device.out_arena_reserve_bytes});
  result["device"] = FieldText(env, device.out_device);
  return result;
}

/// What ALLOC, MAP_USER and IMPORT tell of memory that the device reaches.
template <typename Structure>
Napi::Object Reachable(Napi::Env env, const Structure& structure) {
  Napi::Object result = Napi::Object::New(env);
  result["handle"] = Napi::Number::New(env, structure.out_handle);
  result["dmaAddress"] = Napi::BigInt::New(env, std::uint64_t{structure.out_dma_addr});
  result["segments"] = Napi::Number::New(env, structure.out_segments);
  result["flags"] = Napi::Number::New(env, structure.out_flags);
  return result;
}

Napi::Value Alloc(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto alloc = Sized<iospace_alloc>();
  alloc.memory = Integer<std::uint32_t>(info[1], "memory");
  alloc.length = ByteCount(info[2], "byteLength");
  alloc.flags = Integer<std::uint32_t>(info[3], "flags");
  alloc.align = ByteCount(info[4], "align");
  alloc.boundary = ByteCount(info[5], "boundary");
  alloc.zone = Integer<std::uint32_t>(info[6], "zone");
  alloc.address_bits = Integer<std::uint32_t>(info[7], "addressBits");
  Call(env, fd, IOSPACE_ALLOC, alloc);

  Napi::Object result = Reachable(env, alloc);
  result["memory"] = Napi::Number::New(env, alloc.out_memory);
  result["mmapOffset"] = Napi::BigInt::New(env, std::uint64_t{alloc.out_mmap_offset});
  return result;
}

Napi::Value Segments(const Napi::CallbackInfo& info) {
  // Pairs of elements are structures.
  static_assert(offsetof(iospace_segment, length) == sizeof(std::uint64_t));
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto segments = Sized<iospace_segments>();
  segments.handle = Integer<std::uint32_t>(info[1], "handle");
  segments.first = Integer<std::uint32_t>(info[2], "first");
  const auto array = Elements<std::uint64_t>(info[3], "segments");
  segments.count = static_cast<std::uint32_t>(std::min<std::size_t>(array.size() / 2, UINT32_MAX));
  segments.segments = reinterpret_cast<std::uintptr_t>(array.data());
  Call(env, fd, IOSPACE_SEGMENTS, segments);
  return Napi::Number::New(env, segments.out_count);
}

void Sync(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  auto sync = Sized<iospace_sync>();
  sync.handle = Integer<std::uint32_t>(info[1], "handle");
  sync.flags = Integer<std::uint32_t>(info[2], "flags");
  sync.offset = ByteCount(info[3], "offset");
  sync.length = ByteCount(info[4], "byteLength");
  Call(info.Env(), fd, IOSPACE_SYNC, sync);
}

void SyncRanges(const Napi::CallbackInfo& info) {
  // Pairs of elements are structures.
  static_assert(offsetof(iospace_sync_range, length) == sizeof(std::uint64_t));
  const int fd = Descriptor(info[0], "fd");
  auto sync = Sized<iospace_sync_ranges>();
  sync.handle = Integer<std::uint32_t>(info[1], "handle");
  sync.flags = Integer<std::uint32_t>(info[2], "flags");
  const auto array = Elements<std::uint64_t>(info[3], "ranges");
  sync.count = static_cast<std::uint32_t>(std::min<std::size_t>(array.size() / 2, UINT32_MAX));
  sync.ranges = reinterpret_cast<std::uintptr_t>(array.data());
  Call(info.Env(), fd, IOSPACE_SYNC_RANGES, sync);
}

Napi::Value MapUser(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto map = Sized<iospace_map_user>();
  map.direction = Integer<std::uint32_t>(info[1], "direction");
  const std::span<std::byte> bytes = Bytes(info[2], "view");
  map.address = reinterpret_cast<std::uintptr_t>(bytes.data());
  map.length = bytes.size();
  Call(env, fd, IOSPACE_MAP_USER, map, map.address);
  return Reachable(env, map);
}

Napi::Value Export(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto dma_buf = Sized<iospace_export>();
  dma_buf.handle = Integer<std::uint32_t>(info[1], "handle");
  dma_buf.flags = Integer<std::uint32_t>(info[2], "flags");
  dma_buf.offset = ByteCount(info[3], "offset");
  dma_buf.length = ByteCount(info[4], "byteLength");
  Call(env, fd, IOSPACE_EXPORT, dma_buf);
  return Napi::Number::New(env, dma_buf.out_fd);
}

Napi::Value Import(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto dma_buf = Sized<iospace_import>();
  dma_buf.fd = Descriptor(info[1], "dmaBuf");
  dma_buf.direction = Integer<std::uint32_t>(info[2], "direction");
  Call(env, fd, IOSPACE_IMPORT, dma_buf);
  Napi::Object result = Reachable(env, dma_buf);
  result["byteLength"] = ToNumber(env, dma_buf.out_length);
  return result;
}

void Free(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  auto release = Sized<iospace_free>();
  release.handle = Integer<std::uint32_t>(info[1], "handle");
  Call(info.Env(), fd, IOSPACE_FREE, release);
}

Napi::Value Arena(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto arena = Sized<iospace_arena>();
  arena.index = Integer<std::uint32_t>(info[1], "index");
  arena.flags = Integer<std::uint32_t>(info[2], "flags");
  Call(env, fd, IOSPACE_ARENA, arena);

  Napi::Object result = Napi::Object::New(env);
  result["flags"] = Napi::Number::New(env, arena.out_flags);
  result["address"] = Napi::BigInt::New(env, std::uint64_t{arena.out_address});
  result["byteLength"] = ToNumber(env, arena.out_bytes);
  result["memoryTypes"] = Napi::Number::New(env, arena.out_memory_types);
  result["dmaAddress"] = Napi::BigInt::New(env, std::uint64_t{arena.out_dma_addr});
  result["name"] = FieldText(env, arena.out_name);
  return result;
}

Napi::Value ArenaBooks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto books = Sized<iospace_arena_books>();
  books.index = Integer<std::uint32_t>(info[1], "index");
  Call(env, fd, IOSPACE_ARENA_BOOKS, books);
  return Napi::Number::New(env, books.out_fd);
}

Napi::Value Window(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto window = Sized<iospace_window>();
  window.memory = Integer<std::uint32_t>(info[1], "memory");
  window.address = Unsigned64(info[2], "address");
  window.length = ByteCount(info[3], "byteLength");
  Call(env, fd, IOSPACE_WINDOW, window);

  Napi::Object result = Napi::Object::New(env);
  result["handle"] = Napi::Number::New(env, window.out_handle);
  result["memory"] = Napi::Number::New(env, window.out_memory);
  result["mmapOffset"] = Napi::BigInt::New(env, std::uint64_t{window.out_mmap_offset});
  return result;
}

Napi::Value RegistersInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto registers = Sized<iospace_registers>();
  registers.index = Integer<std::uint32_t>(info[1], "index");
  Call(env, fd, IOSPACE_REGISTERS, registers);

  Napi::Object result = Napi::Object::New(env);
  result["flags"] = Napi::Number::New(env, registers.out_flags);
  result["byteLength"] = ToNumber(env, registers.out_length);
  result["mmapOffset"] = Napi::BigInt::New(env, std::uint64_t{registers.out_mmap_offset});
  result["pageOffset"] = Napi::Number::New(env, registers.out_page_offset);
  result["name"] = FieldText(env, registers.out_name);
  return result;
}

Napi::Value Interrupt(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  auto interrupt = Sized<iospace_interrupt>();
  interrupt.vector = Integer<std::uint32_t>(info[1], "vector");
  interrupt.flags = Integer<std::uint32_t>(info[2], "flags");
  interrupt.eventfd = Integer<std::int32_t>(info[3], "eventfd");
  Call(env, fd, IOSPACE_INTERRUPT, interrupt);

  Napi::Object result = Napi::Object::New(env);
  result["flags"] = Napi::Number::New(env, interrupt.out_flags);
  result["count"] = Napi::BigInt::New(env, std::uint64_t{interrupt.out_count});
  result["name"] = FieldText(env, interrupt.out_name);
  return result;
}

/// Microseconds: it blocks the event loop.
constexpr std::int64_t kLongestSpin = 1000;

/// (fd, counts, spin): false if there is nothing to read, looked for during that many microseconds
Napi::Value ReadCounts(const Napi::CallbackInfo& info) {
  using Clock = std::chrono::steady_clock;
  const Napi::Env env = info.Env();
  const int fd = Descriptor(info[0], "fd");
  const auto counts = Elements<std::uint64_t>(info[1], "counts");
  const std::int64_t spin = info[2].IsUndefined() ? 0 : Integer(info[2], "spin", 0, kLongestSpin);
  const auto read = [&] { return syscall::Read(fd, std::as_writable_bytes(counts)); };
  const auto found_nothing = [](const Result<std::size_t>& result) {
    const auto* const failure = std::get_if<Failure>(&result);
    return failure != nullptr && failure->error == EAGAIN;
  };

  Result<std::size_t> result = read();
  if (spin > 0) {
    const auto end = Clock::now() + std::chrono::microseconds(spin);
    while (found_nothing(result) && Clock::now() < end) {
      Pause();
      result = read();
    }
  }
  if (found_nothing(result)) return Napi::Boolean::New(env, false);
  Take(env, result);
  return Napi::Boolean::New(env, true);
}

}  // namespace

void DefineDevice(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("deviceInfo", Napi::Function::New<Info>(env, "deviceInfo"));
  exports.Set("deviceAlloc", Napi::Function::New<Alloc>(env, "deviceAlloc"));
  exports.Set("deviceSegments", Napi::Function::New<Segments>(env, "deviceSegments"));
  exports.Set("deviceSync", Napi::Function::New<Sync>(env, "deviceSync"));
  exports.Set("deviceSyncRanges", Napi::Function::New<SyncRanges>(env, "deviceSyncRanges"));
  exports.Set("deviceMapUser", Napi::Function::New<MapUser>(env, "deviceMapUser"));
  exports.Set("deviceExport", Napi::Function::New<Export>(env, "deviceExport"));
  exports.Set("deviceImport", Napi::Function::New<Import>(env, "deviceImport"));
  exports.Set("deviceFree", Napi::Function::New<Free>(env, "deviceFree"));
  exports.Set("deviceArena", Napi::Function::New<Arena>(env, "deviceArena"));
  exports.Set("deviceArenaBooks", Napi::Function::New<ArenaBooks>(env, "deviceArenaBooks"));
  exports.Set("deviceWindow", Napi::Function::New<Window>(env, "deviceWindow"));
  exports.Set("deviceRegisters", Napi::Function::New<RegistersInfo>(env, "deviceRegisters"));
  exports.Set("deviceInterrupt", Napi::Function::New<Interrupt>(env, "deviceInterrupt"));
  exports.Set("deviceReadCounts", Napi::Function::New<ReadCounts>(env, "deviceReadCounts"));
}

}  // namespace iospace
