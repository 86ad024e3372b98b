/// What the programs that test an arena have in common: the end at the first difference, stops before any
/// write, and suites by name. Included by one file of each program.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>

/// Thrown before a write.
struct Stop {};

inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
inline std::uint64_t writes_left = kNever;
/// What happens before the write that is one too many.
inline void (*stop)() = [] { throw Stop{}; };

/// Ends the program, which says why.
[[noreturn, gnu::format(printf, 4, 5)]] inline void Fail(const char* file, int line, const char* condition,
                                                         const char* format, ...) {
  static_cast<void>(std::fprintf(stderr, "%s:%d: %s: ", file, line, condition));
  va_list arguments;
  va_start(arguments, format);
  // The analyzer does not see that va_start() began the list.
  // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
  static_cast<void>(std::vfprintf(stderr, format, arguments));
  va_end(arguments);
  static_cast<void>(std::fputc('\n', stderr));
  std::_Exit(1);
}

#define EXPECT(condition, ...)                                           \
  do {                                                                   \
    if (!(condition)) Fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
  } while (false)

/// Whether the call came to its end within so many writes.
inline bool Ends(std::uint64_t writes, const std::function<void()>& call) {
  writes_left = writes;
  try {
    call();
  } catch (const Stop&) {
    writes_left = kNever;
    return false;
  }
  writes_left = kNever;
  return true;
}

using Random = std::mt19937_64;
inline std::uint64_t Below(Random& random, std::uint64_t limit) {
  return random() % limit;
}

using Suites = std::map<std::string, void (*)(std::uint64_t)>;

/// Ends the program, which cannot test this here.
[[noreturn]] inline void Skip(const std::string& reason) {
  static_cast<void>(std::fprintf(stderr, "%s", reason.c_str()));
  std::_Exit(3);
}

/// Runs the suite that the first argument names, with the seed that the second one is.
inline int RunSuite(const Suites& suites, int argc, char** argv) {
  const auto suite = suites.find(argc > 1 ? argv[1] : "");
  if (suite == suites.end()) {
    std::string names;
    for (const auto& [name, test] : suites) names += " " + name;
    static_cast<void>(std::fprintf(stderr, "expected one of%s\n", names.c_str()));
    return 2;
  }
  suite->second(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  return 0;
}

void BeforeWrite() {
  if (writes_left == 0) stop();
  if (writes_left != kNever) --writes_left;
}
