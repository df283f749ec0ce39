// Ordinary reads and writes of kernels: the functions that a compiler calls before each of them with -fsanitize=thread, and
// where a pointer is not aligned as its type with -fsanitize=alignment.
//
// Only files with kernels are compiled so; nothing is linked of that sanitizer, and they are linked last, so that templates
// of the standard library that the emulator uses too are taken from files without hooks. Compilers leave out accesses to
// variables whose address stays within a function.
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

#include "emu/machine.hpp"
#include "emu/global_memory.hpp"
#include "emu/warpgroup_product.hpp"

namespace usmlite::emu {

namespace {

inline void access(const void* pointer, size_t bytes, bool writes) {
  if (!running_thread) return;  // the host's own
  Machine& machine = emu::machine();
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  const char* const operation = writes ? "write" : "read";
  if (machine.stacks().contain(address)) {
    if (running_thread->awaits_products && address < running_thread->accumulators_end &&
        running_thread->accumulators_begin < address + bytes && machine.products().are_under_way(address, bytes))
      machine.fail(std::string(operation) + " of an accumulator of a product that is under way; wgmma_wait comes first");
  } else if (machine.shared().is_near(address)) {
    SharedMemory& shared = machine.shared();
    const uint32_t offset = shared.offset_of(pointer, static_cast<uint32_t>(bytes), 1, operation);
    if (writes) {
      shared.write(running_thread->id, offset, static_cast<uint32_t>(bytes), operation);
    } else {
      shared.read(running_thread->id, offset, static_cast<uint32_t>(bytes), operation);
    }
  } else {
    global_memory::check(pointer, bytes, 1, writes ? global_memory::Access::kWrite : global_memory::Access::kReadOrConstant,
                         operation);
  }
}

}  // namespace

}  // namespace usmlite::emu

extern "C" {

// What compilers of GCC's family hand to their sanitizer's report: where, of which type, and log2 of what alignment it has.
struct MisalignedAccess {
  struct Type {
    uint16_t kind, information;
    char name[1];
  };
  const char* file;
  uint32_t line, column;
  const Type* type;
  uint8_t log_alignment, kind_of_access;
};
void __ubsan_handle_type_mismatch_v1(const MisalignedAccess* access, uintptr_t pointer) {
  if (!usmlite::emu::running_thread) {  // the host's own: for the sanitizer's library, where the module was compiled with it
    using Handler = void(const MisalignedAccess*, uintptr_t);
    static Handler* const report = reinterpret_cast<Handler*>(dlsym(RTLD_DEFAULT, "__ubsan_handle_type_mismatch_v1"));
    if (report) report(access, pointer);
    return;
  }
  usmlite::emu::machine().fail("misaligned address: " + std::string(access->type->name) + " must begin at a multiple of " +
                               std::to_string(1u << access->log_alignment) + " bytes (" + access->file + ", line " + std::to_string(access->line) +
                               ")");
}

#define USMLITE_HOOKS(SIZE)                                                                       \
  void __tsan_read##SIZE(void* address) { usmlite::emu::access(address, SIZE, false); }           \
  void __tsan_write##SIZE(void* address) { usmlite::emu::access(address, SIZE, true); }           \
  void __tsan_unaligned_read##SIZE(void* address) { usmlite::emu::access(address, SIZE, false); } \
  void __tsan_unaligned_write##SIZE(void* address) { usmlite::emu::access(address, SIZE, true); } \
  void __tsan_volatile_read##SIZE(void* address) { usmlite::emu::access(address, SIZE, false); }  \
  void __tsan_volatile_write##SIZE(void* address) { usmlite::emu::access(address, SIZE, true); }
USMLITE_HOOKS(1)
USMLITE_HOOKS(2)
USMLITE_HOOKS(4)
USMLITE_HOOKS(8)
USMLITE_HOOKS(16)
#undef USMLITE_HOOKS
// The host's own part of those files counts references to tensors.
int32_t __tsan_atomic32_fetch_add(volatile int32_t* address, int32_t value, int) { return __atomic_fetch_add(address, value, __ATOMIC_ACQ_REL); }
void __tsan_read_range(void* address, unsigned long bytes) { usmlite::emu::access(address, bytes, false); }
void __tsan_write_range(void* address, unsigned long bytes) { usmlite::emu::access(address, bytes, true); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  usmlite::emu::access(from, bytes, false);
  usmlite::emu::access(to, bytes, true);
  return __builtin_memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {  // Clang alone calls it
  usmlite::emu::access(from, bytes, false);
  usmlite::emu::access(to, bytes, true);
  return __builtin_memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, unsigned long bytes) {
  usmlite::emu::access(to, bytes, true);
  return __builtin_memset(to, value, bytes);
}
}
