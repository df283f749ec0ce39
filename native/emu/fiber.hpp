// Fibers: threads of control that are switched by hand within one thread of the process. A kernel's threads are fibers,
// because a block has hundreds that meet at every step, and because only they make a run repeatable.
#pragma once
#include <cstddef>
#include <cstdint>

namespace usmlite::emu {

/// The stack pointer of a fiber that does not run; its registers are saved on its stack.
using FiberContext = void*;

/// Saves the running fiber in `from` and goes on with `to`. Registers that a call preserves are kept (System V x86-64);
/// the floating-point environment is the process's.
extern "C" void usmlite_switch_fiber(FiberContext* from, FiberContext to);

/// Stacks for fibers, in one piece so that an address can be told to be on one of them. Each that is used is preceded by a page
/// that cannot be touched.
class FiberStacks {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;
  static constexpr size_t kGuardBytes = 4096;
  static constexpr int kStacks = 4096;

  FiberStacks();
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

  /// A fiber on stack `index` that will call `entry`, which must not return.
  FiberContext prepare(int index, void (*entry)());
  bool contain(uintptr_t address) const { return address - begin_ < kBytes; }

 private:
  static constexpr size_t kBytes = kStacks * (kStackBytes + kGuardBytes);
  uintptr_t begin_;
  int guarded_ = 0;  // of the first: each page of another kind costs the system time, and again when a process forks
};

}  // namespace usmlite::emu
