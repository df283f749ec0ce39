#include "emu/fiber.hpp"

#include <sys/mman.h>

#include <new>

#if !defined(__x86_64__)
#error "the emulator's fibers are written for x86-64"
#endif

asm(R"(
.text
.p2align 4
.globl usmlite_switch_fiber
.hidden usmlite_switch_fiber
.type usmlite_switch_fiber, @function
usmlite_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size usmlite_switch_fiber, .-usmlite_switch_fiber
)");

namespace usmlite::emu {

FiberStacks::FiberStacks() {
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  begin_ = reinterpret_cast<uintptr_t>(memory);
}

FiberStacks::~FiberStacks() { munmap(reinterpret_cast<void*>(begin_), kBytes); }

FiberContext FiberStacks::prepare(int index, void (*entry)()) {
  for (; guarded_ <= index; ++guarded_)
    mprotect(reinterpret_cast<void*>(begin_ + guarded_ * (kStackBytes + kGuardBytes)), kGuardBytes, PROT_NONE);
  constexpr int kSavedRegisters = 6;
  void** top = reinterpret_cast<void**>(begin_ + (index + 1) * (kStackBytes + kGuardBytes));
  *--top = nullptr;  // where `entry` would return to; also aligns its frame as a call does
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  return top;
}

}  // namespace usmlite::emu
