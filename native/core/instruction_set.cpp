#include "core/instruction_set.hpp"

#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <cstdlib>

#include "core/error.hpp"

namespace usmlite {
namespace {

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

// AVX-VNNI has no name among those that GCC 12 knows: leaf 7, sub-leaf 1, bit 4 of EAX.
bool has_avx2_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

// The AVX-512 kernels use VNNI and VBMI throughout: Ice Lake, Zen 4 and later.
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}

// 64-bit Linux keeps the tile registers of a process only when it has asked for them; `tiles` and `sums of bytes` are bits 24
// and 25 of EDX in leaf 7.
bool has_avx512_amx() {
#if defined(__linux__) && !defined(USMLITE_WITHOUT_AMX)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, the number of the state
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx512() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx >> 24 & 3) != 3) return false;
  static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
#else
  return false;
#endif
}

InstructionSet parse(const std::string& name) {
  for (const std::string& available : available_instruction_sets()) {
    if (available != name) continue;
    if (name == "avx512amx") return InstructionSet::kAvx512Amx;
    if (name == "avx512") return InstructionSet::kAvx512;
    if (name == "avx2vnni") return InstructionSet::kAvx2Vnni;
    if (name == "avx2") return InstructionSet::kAvx2;
    return InstructionSet::kReference;
  }
  std::string choices;
  for (const std::string& available : available_instruction_sets()) choices += (choices.empty() ? "" : ", ") + available;
  throw Error(error_code::kInvalidArgument,
              "instruction set \"" + name + "\" is not available on this processor; choose one of " + choices);
}

InstructionSet initial() {
  if (const char* name = std::getenv("USMLITE_ISA"); name && *name) return parse(name);
  if (has_avx512_amx()) return InstructionSet::kAvx512Amx;
  if (has_avx512()) return InstructionSet::kAvx512;
  if (has_avx2_vnni()) return InstructionSet::kAvx2Vnni;
  return has_avx2() ? InstructionSet::kAvx2 : InstructionSet::kReference;
}

std::atomic<InstructionSet>& active() {
  static std::atomic<InstructionSet> set{initial()};
  return set;
}

}  // namespace

InstructionSet active_instruction_set() { return active().load(std::memory_order_relaxed); }

void set_instruction_set(const std::string& name) { active().store(parse(name), std::memory_order_relaxed); }

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names{"reference"};
  if (has_avx2()) names.push_back("avx2");
  if (has_avx2_vnni()) names.push_back("avx2vnni");
  if (has_avx512()) names.push_back("avx512");
  if (has_avx512_amx()) names.push_back("avx512amx");
  return names;
}

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx512Amx: return "avx512amx";
    case InstructionSet::kAvx512: return "avx512";
    case InstructionSet::kAvx2Vnni: return "avx2vnni";
    case InstructionSet::kAvx2: return "avx2";
    default: return "reference";
  }
}

}  // namespace usmlite
