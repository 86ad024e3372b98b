/// What a thread that looks for something again and again does in between.
#pragma once

namespace iospace {

/// Tells the processor that this thread waits for another.
inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
  asm volatile("yield");
#endif
}

}  // namespace iospace
