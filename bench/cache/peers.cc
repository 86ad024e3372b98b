/// What library.ts measures against: empty calls, memcpy(), bare loops of the cache instructions, and a
/// device that interrupts whenever it was acknowledged. An addon of its own, by Node-API itself.
#include <node_api.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <span>
#include <thread>

namespace {

constexpr std::size_t kLine = 64;

double Clock(clockid_t clock) {
  timespec time = {};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

std::span<std::byte> BytesOf(napi_env env, napi_value value) {
  napi_typedarray_type type = napi_uint8_array;
  std::size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) return {};
  return {static_cast<std::byte*>(data), length};
}

template <std::size_t most>
struct ArgumentsOf {
  ArgumentsOf(napi_env env, napi_callback_info info) {
    std::size_t count = values.size();
    napi_get_cb_info(env, info, &count, values.data(), nullptr, nullptr);
  }

  std::array<napi_value, most> values = {};
};

using Arguments = ArgumentsOf<3>;

std::uint32_t NumberOf(napi_env env, napi_value value) {
  std::uint32_t number = 0;
  napi_get_value_uint32(env, value, &number);
  return number;
}

napi_value Number(napi_env env, double value) {
  napi_value number = nullptr;
  napi_create_double(env, value, &number);
  return number;
}

napi_value Empty(napi_env, napi_callback_info) {
  return nullptr;
}

/// (offset): takes its argument and gives a number, as a call of this form must, and does nothing
napi_value EmptyRead(napi_env env, napi_callback_info info) {
  double offset = 0;
  napi_get_value_double(env, ArgumentsOf<1>(env, info).values[0], &offset);
  napi_value value = nullptr;
  napi_create_uint32(env, static_cast<std::uint32_t>(offset), &value);
  return value;
}

/// (offset, value): takes its arguments, and does nothing
napi_value EmptyWrite(napi_env env, napi_callback_info info) {
  const ArgumentsOf<2> arguments(env, info);
  double offset = 0;
  double value = 0;
  napi_get_value_double(env, arguments.values[0], &offset);
  napi_get_value_double(env, arguments.values[1], &value);
  return nullptr;
}

/// (target, source)
napi_value Memcpy(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const auto target = BytesOf(env, arguments.values[0]);
  const auto source = BytesOf(env, arguments.values[1]);
  if (source.size() <= target.size()) std::memcpy(target.data(), source.data(), source.size());
  return nullptr;
}

/// (target, source, times): nanoseconds of this thread for each
napi_value MemcpyTimes(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const auto target = BytesOf(env, arguments.values[0]);
  const auto source = BytesOf(env, arguments.values[1]);
  const std::uint32_t times = NumberOf(env, arguments.values[2]);
  const double begin = Clock(CLOCK_THREAD_CPUTIME_ID);
  for (std::uint32_t time = 0; time < times; ++time) {
    std::memcpy(target.data(), source.data(), source.size());
    // So that none is left out.
    asm volatile("" : : "r"(target.data()) : "memory");
  }
  return Number(env, (Clock(CLOCK_THREAD_CPUTIME_ID) - begin) / times);
}

void Dirty(std::span<std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += kLine) {
    auto* const byte = reinterpret_cast<volatile unsigned char*>(bytes.data() + at);
    *byte = static_cast<unsigned char>(*byte + 1);
  }
}

/// (bytes)
napi_value DirtyBytes(napi_env env, napi_callback_info info) {
  Dirty(BytesOf(env, Arguments(env, info).values[0]));
  return nullptr;
}

enum Instruction : std::uint8_t { kClean, kFlush };

// The best instruction as a bare loop. Where a processor has none of these the benchmark says so.
#if defined(__x86_64__)
template <Instruction instruction>
void Maintain(std::span<std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += kLine) {
    if constexpr (instruction == kClean)
      asm volatile("clwb (%0)" : : "r"(bytes.data() + at) : "memory");
    else
      asm volatile("clflushopt (%0)" : : "r"(bytes.data() + at) : "memory");
  }
  if constexpr (instruction == kClean)
    asm volatile("sfence" ::: "memory");
  else
    asm volatile("mfence" ::: "memory");
}
#elif defined(__aarch64__)
template <Instruction instruction>
void Maintain(std::span<std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += kLine) {
    if constexpr (instruction == kClean)
      asm volatile("dc cvac, %0" : : "r"(bytes.data() + at) : "memory");
    else
      asm volatile("dc civac, %0" : : "r"(bytes.data() + at) : "memory");
  }
  asm volatile("dsb sy" ::: "memory");
}
#else
template <Instruction instruction>
void Maintain(std::span<std::byte>) {}
#endif

/// (bytes, length): nanoseconds for all lines, which were written before, that many bytes at a time
template <Instruction instruction>
napi_value MaintainBytes(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const auto bytes = BytesOf(env, arguments.values[0]);
  const std::size_t length = NumberOf(env, arguments.values[1]);
  Dirty(bytes);
  const double begin = Clock(CLOCK_MONOTONIC);
  for (std::size_t at = 0; at < bytes.size(); at += length) Maintain<instruction>(bytes.subspan(at, length));
  return Number(env, Clock(CLOCK_MONOTONIC) - begin);
}

/// (bytes, times): nanoseconds of this thread for each, the first byte written before each
template <Instruction instruction>
napi_value MaintainTimes(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const auto bytes = BytesOf(env, arguments.values[0]);
  const std::uint32_t times = NumberOf(env, arguments.values[1]);
  const double begin = Clock(CLOCK_THREAD_CPUTIME_ID);
  for (std::uint32_t time = 0; time < times; ++time) {
    *reinterpret_cast<volatile unsigned char*>(bytes.data()) = static_cast<unsigned char>(time);
    Maintain<instruction>(bytes);
  }
  return Number(env, (Clock(CLOCK_THREAD_CPUTIME_ID) - begin) / times);
}

template <clockid_t clock>
napi_value Now(napi_env env, napi_callback_info) {
  return Number(env, Clock(clock));
}

void Add(int fd) {
  const std::uint64_t one = 1;
  static_cast<void>(::write(fd, &one, sizeof one));
}

/// (interrupt, acknowledgement): interrupts once for each acknowledgement, until 2^32 of them come at once
napi_value Interrupt(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const auto interrupt = static_cast<int>(NumberOf(env, arguments.values[0]));
  const auto acknowledgement = static_cast<int>(NumberOf(env, arguments.values[1]));
  std::thread([interrupt, acknowledgement] {
    std::uint64_t count = 0;
    while (::read(acknowledgement, &count, sizeof count) == sizeof count && count < (std::uint64_t{1} << 32))
      Add(interrupt);
  }).detach();
  return nullptr;
}

/// (acknowledgement)
napi_value Acknowledge(napi_env env, napi_callback_info info) {
  Add(static_cast<int>(NumberOf(env, Arguments(env, info).values[0])));
  return nullptr;
}

/// (acknowledgement): the interrupts are over
napi_value End(napi_env env, napi_callback_info info) {
  const std::uint64_t many = std::uint64_t{1} << 32;
  const auto acknowledgement = static_cast<int>(NumberOf(env, Arguments(env, info).values[0]));
  static_cast<void>(::write(acknowledgement, &many, sizeof many));
  return nullptr;
}

struct Export {
  const char* name;
  napi_callback call;
};

constexpr Export kExports[] = {
    {"empty", Empty},
    {"emptyRead", EmptyRead},
    {"emptyWrite", EmptyWrite},
    {"memcpy", Memcpy},
    {"memcpyTimes", MemcpyTimes},
    {"dirty", DirtyBytes},
    {"clean", MaintainBytes<kClean>},
    {"flush", MaintainBytes<kFlush>},
    {"cleanTimes", MaintainTimes<kClean>},
    {"flushTimes", MaintainTimes<kFlush>},
    {"now", Now<CLOCK_MONOTONIC>},
    {"threadTime", Now<CLOCK_THREAD_CPUTIME_ID>},
    {"interrupt", Interrupt},
    {"acknowledge", Acknowledge},
    {"end", End},
};

}  // namespace

NAPI_MODULE_INIT() {
  for (const auto [name, call] : kExports) {
    napi_value function = nullptr;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function) != napi_ok ||
        napi_set_named_property(env, exports, name, function) != napi_ok)
      return nullptr;
  }
  return exports;
}
