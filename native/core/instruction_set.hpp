// Which kernels run: chosen once from the processor's features, overridable for tests and for finding faults.
#pragma once
#include <string>
#include <vector>

namespace usmlite {

/// kReference is plain C++ without intrinsics: slow, short, and what the others are tested against. kAvx2Vnni differs from
/// kAvx2 in products of whole numbers, and so does kAvx512Amx from kAvx512.
enum class InstructionSet { kReference, kAvx2, kAvx2Vnni, kAvx512, kAvx512Amx };

/// The best the processor has, or what USMLITE_ISA (reference, avx2, avx2vnni, avx512, avx512amx) or set_instruction_set asked for.
InstructionSet active_instruction_set();
/// Throws INVALID_ARGUMENT for an unknown name or one this processor lacks.
void set_instruction_set(const std::string& name);
/// Names this processor can run, slowest first.
std::vector<std::string> available_instruction_sets();
const char* name_of(InstructionSet set);

}  // namespace usmlite

// An operation is declared once for every instruction set and called through a dispatcher of the same name:
//   USMLITE_FOR_EACH_ISA(void scale(const float* x, float factor, float* y, int64_t count);)
//   USMLITE_DISPATCH(scale)
#define USMLITE_FOR_EACH_ISA(...)      \
  namespace reference { __VA_ARGS__ } \
  namespace avx2 { __VA_ARGS__ }      \
  namespace avx512 { __VA_ARGS__ }

// Of operations on whole numbers there are two more:
//   USMLITE_FOR_EACH_VNNI_ISA(..)  USMLITE_DISPATCH_VNNI(..)
#define USMLITE_FOR_EACH_VNNI_ISA(...)    \
  USMLITE_FOR_EACH_ISA(__VA_ARGS__)       \
  namespace avx2vnni { __VA_ARGS__ }      \
  namespace avx512amx { __VA_ARGS__ }

#define USMLITE_DISPATCH(function)                                                                         \
  template <typename... Arguments>                                                                         \
  inline auto function(Arguments&&... arguments) {                                                         \
    switch (::usmlite::active_instruction_set()) {                                                         \
      case ::usmlite::InstructionSet::kAvx512Amx:                                                          \
      case ::usmlite::InstructionSet::kAvx512: return avx512::function(std::forward<Arguments>(arguments)...); \
      case ::usmlite::InstructionSet::kAvx2Vnni:                                                           \
      case ::usmlite::InstructionSet::kAvx2: return avx2::function(std::forward<Arguments>(arguments)...);  \
      default: return reference::function(std::forward<Arguments>(arguments)...);                          \
    }                                                                                                      \
  }

// Compilers that know no AMX leave it out (CMakeLists.txt defines USMLITE_WITHOUT_AMX).
#if defined(USMLITE_WITHOUT_AMX)
#define USMLITE_AMX(function) avx512::function
#else
#define USMLITE_AMX(function) avx512amx::function
#endif

#define USMLITE_DISPATCH_VNNI(function)                                                                    \
  template <typename... Arguments>                                                                         \
  inline auto function(Arguments&&... arguments) {                                                         \
    switch (::usmlite::active_instruction_set()) {                                                         \
      case ::usmlite::InstructionSet::kAvx512Amx: return USMLITE_AMX(function)(std::forward<Arguments>(arguments)...); \
      case ::usmlite::InstructionSet::kAvx512: return avx512::function(std::forward<Arguments>(arguments)...); \
      case ::usmlite::InstructionSet::kAvx2Vnni: return avx2vnni::function(std::forward<Arguments>(arguments)...); \
      case ::usmlite::InstructionSet::kAvx2: return avx2::function(std::forward<Arguments>(arguments)...);  \
      default: return reference::function(std::forward<Arguments>(arguments)...);                          \
    }                                                                                                      \
  }
