#include "trace.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr std::size_t kMost = 4096;

// What the handlers of signals share with Trace(); nothing there may allocate.
std::span<const std::span<std::byte>> watched;
Access accesses[kMost];
std::size_t count = 0;
/// Until the first access instruction by instruction, to see whether one is a fence.
volatile std::sig_atomic_t stepping = 0;
bool fenced = false;

void Protect(int protection) {
  for (const auto range : watched) ::mprotect(range.data(), range.size(), protection);
}

[[noreturn]] void Unknown(const char* what, const unsigned char* code) {
  static_cast<void>(std::fprintf(stderr, "%s: %02x %02x %02x %02x %02x %02x %02x %02x\n", what, code[0],
                                 code[1], code[2], code[3], code[4], code[5], code[6], code[7]));
  std::_Exit(1);
}

struct Instruction {
  std::size_t width;
  bool store;
};

#if defined(__x86_64__)

/// The moves that compilers and the kernels use.
Instruction Decode(const unsigned char* code) {
  const unsigned char* at = code;
  if (*at == 0x62) {  // EVEX: map, -, length; 64 bytes
    const unsigned map = at[1] & 7U;
    const std::size_t width = std::size_t{16} << ((at[3] >> 5) & 3U);
    if (map == 2 && at[4] == 0x2a) return {width, false};
    if (map == 1 && at[4] == 0xe7) return {width, true};
    Unknown("EVEX", code);
  }
  if (*at == 0xc5 || *at == 0xc4) {  // VEX
    const bool is_short = *at == 0xc5;
    const unsigned map = is_short ? 1 : at[1] & 0x1fU;
    const unsigned char last = is_short ? at[1] : at[2];
    const unsigned char opcode = is_short ? at[2] : at[3];
    const std::size_t width = (last & 4U) != 0 ? 32 : 16;
    if (map == 2 && opcode == 0x2a) return {width, false};
    if (map == 1 && opcode == 0xe7) return {width, true};
    Unknown("VEX", code);
  }
  bool half = false;
  if (*at == 0x66) {
    half = true;
    ++at;
  }
  std::size_t word = half ? 2 : 4;
  if ((*at & 0xf0U) == 0x40) {
    if ((*at & 8U) != 0) word = 8;
    ++at;
  }
  switch (*at) {
    case 0x8a:
      return {1, false};
    case 0x8b:
      return {word, false};
    case 0x88:
      return {1, true};
    case 0x89:
      return {word, true};
    case 0x0f:
      if (at[1] == 0xb6) return {1, false};
      if (at[1] == 0xb7) return {2, false};
      if (half && at[1] == 0x38 && at[2] == 0x2a) return {16, false};
      if (half && at[1] == 0xe7) return {16, true};
      break;
    default:
      break;
  }
  Unknown("an access", code);
}

unsigned char* CodeAt(const ucontext_t& context) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel has it as a number.
  return reinterpret_cast<unsigned char*>(context.uc_mcontext.gregs[REG_RIP]);
}

constexpr greg_t kTrap = 0x100;

/// Has the processor stop after the next instruction.
void StepFrom(ucontext_t& context) {
  context.uc_mcontext.gregs[REG_EFL] |= kTrap;
}

void EndStep(ucontext_t& context) {
  context.uc_mcontext.gregs[REG_EFL] &= ~kTrap;
}

bool IsFence(const unsigned char* code) {
  return code[0] == 0x0f && code[1] == 0xae && code[2] == 0xf0;
}

#elif defined(__aarch64__)

Instruction Decode(const unsigned char* code) {
  std::uint32_t word = 0;
  std::memcpy(&word, code, sizeof word);
  const bool vector = (word >> 26 & 1U) != 0;
  const unsigned size = word >> 30;
  if ((word >> 27 & 7U) == 5)  // a pair
    return {std::size_t{vector ? 8U << size : size == 2 ? 16U : 8U}, (word >> 22 & 1U) == 0};
  if ((word >> 27 & 7U) == 7) {  // one register
    const unsigned kind = word >> 22 & 3U;
    if (vector && size == 0 && kind >= 2) return {16, kind == 2};
    return {std::size_t{1} << size, kind == 0};
  }
  Unknown("an access", code);
}

unsigned char* CodeAt(const ucontext_t& context) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel has it as a number.
  return reinterpret_cast<unsigned char*>(context.uc_mcontext.pc);
}

/// What stood where the break is now.
std::uint32_t replaced = 0;

void Put(unsigned char* code, std::uint32_t instruction) {
  constexpr std::uintptr_t kPage = 65536;
  unsigned char* const page = code - reinterpret_cast<std::uintptr_t>(code) % kPage;
  // Programs lie on multiples of the largest page.
  ::mprotect(page, kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  std::memcpy(code, &instruction, sizeof instruction);
  __builtin___clear_cache(reinterpret_cast<char*>(code), reinterpret_cast<char*>(code) + sizeof instruction);
}

/// Loads and stores do not branch: a break stands after this one.
void StepFrom(ucontext_t& context) {
  unsigned char* const next = CodeAt(context) + 4;
  std::memcpy(&replaced, next, sizeof replaced);
  constexpr std::uint32_t kBreak = 0xd4200000;
  Put(next, kBreak);
}

void EndStep(ucontext_t& context) {
  Put(CodeAt(context), replaced);
}

bool IsFence(const unsigned char*) {
  return false;
}

#else

Instruction Decode(const unsigned char* code) {
  Unknown("no decoder", code);
}
unsigned char* CodeAt(const ucontext_t&) {
  return nullptr;
}
void StepFrom(ucontext_t&) {}
void EndStep(ucontext_t&) {}
bool IsFence(const unsigned char*) {
  return false;
}

#endif

void OnAccess(int, siginfo_t* info, void* context) {
  auto& state = *static_cast<ucontext_t*>(context);
  const auto* const address = static_cast<std::byte*>(info->si_addr);
  bool ours = false;
  for (const auto range : watched)
    ours = ours || (address >= range.data() && address < range.data() + range.size());
  if (!ours || count == kMost) Unknown("a fault elsewhere, or too many", CodeAt(state));
  const Instruction instruction = Decode(CodeAt(state));
  accesses[count++] = {address, instruction.width, instruction.store, fenced};
  stepping = 0;
  Protect(PROT_READ | PROT_WRITE);
  StepFrom(state);
}

void OnStep(int, siginfo_t*, void* context) {
  auto& state = *static_cast<ucontext_t*>(context);
  if (stepping != 0) {
    fenced = fenced || IsFence(CodeAt(state));
    StepFrom(state);
    return;
  }
  EndStep(state);
  Protect(PROT_NONE);
}

}  // namespace

bool CanTrace() {
#if defined(__x86_64__) || defined(__aarch64__)
  return true;
#else
  return false;
#endif
}

bool CanSeeFences() {
#if defined(__x86_64__)
  return true;
#else
  return false;
#endif
}

std::vector<Access> Trace(std::span<const std::span<std::byte>> ranges, const std::function<void()>& call,
                          bool look_for_fences) {
  struct sigaction on_access = {};
  struct sigaction on_step = {};
  struct sigaction old_access = {};
  struct sigaction old_step = {};
  on_access.sa_sigaction = OnAccess;
  on_step.sa_sigaction = OnStep;
  on_access.sa_flags = on_step.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &on_access, &old_access);
  ::sigaction(SIGTRAP, &on_step, &old_step);
  watched = ranges;
  count = 0;
  fenced = false;
  Protect(PROT_NONE);
  if (look_for_fences) {
    stepping = 1;
    static_cast<void>(std::raise(SIGTRAP));
  }
  call();
  stepping = 0;
  Protect(PROT_READ | PROT_WRITE);
  ::sigaction(SIGSEGV, &old_access, nullptr);
  ::sigaction(SIGTRAP, &old_step, nullptr);
  return {accesses, accesses + count};
}
