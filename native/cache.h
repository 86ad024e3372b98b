/// Cache maintenance by the processor's own instructions, where it lets programs use them. No JavaScript.
#pragma once

#include <cstddef>
#include <span>

namespace iospace::cache {

/// What becomes of the lines of a range.
enum class Operation : unsigned char {
  /// Written back; they may stay.
  kClean,
  /// Gone, so that the next read is of memory: by every processor that lets programs do it, written back
  /// before.
  kInvalidate,
  /// Written back, and gone.
  kFlush,
};

struct Instructions {
  /// Their names; null where there is none for programs.
  const char* clean;
  const char* invalidate;
  const char* flush;
  /// Bytes that they work on; 0 where there are none.
  std::size_t line;
};

/// Of this processor.
const Instructions& OfProcessor();

/// Whether it was done. The lines that the range shares with its neighbours are whole ones, too.
bool Maintain(Operation operation, std::span<const std::byte> range);

}  // namespace iospace::cache
