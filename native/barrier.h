/// Barriers between the CPU's memory accesses and a device's, of the scope of the whole system: those of
/// C++ reach only other CPUs, which on arm64 is less.
#pragma once

namespace iospace::barrier {

/// What was written before is seen by the device before the register write that follows.
inline void BeforeDeviceWrite() {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("sfence" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("dmb oshst" ::: "memory");
#elif defined(__arm__)
  asm volatile("dsb st" ::: "memory");
#elif defined(__riscv)
  asm volatile("fence w,o" ::: "memory");
#else
#error "iospace has no device barrier for this architecture"
#endif
}

/// What is read after comes after the register read before.
inline void AfterDeviceRead() {
#if defined(__x86_64__) || defined(__i386__)
  // Loads are not reordered; only the compiler must keep to it.
  asm volatile("" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("dmb oshld" ::: "memory");
#elif defined(__arm__)
  asm volatile("dsb sy" ::: "memory");
#elif defined(__riscv)
  asm volatile("fence i,r" ::: "memory");
#endif
}

/// All accesses before, memory and registers, come before all after.
inline void Full() {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("mfence" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("dmb osh" ::: "memory");
#elif defined(__arm__)
  asm volatile("dsb sy" ::: "memory");
#elif defined(__riscv)
  asm volatile("fence iorw,iorw" ::: "memory");
#endif
}

}  // namespace iospace::barrier
