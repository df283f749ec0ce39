// Which kernels run: chosen once from the processor's features, overridable for tests and for finding faults.
#pragma once
#include <string>
#include <vector>

namespace usmlite {

/// kReference is plain C++ without intrinsics: slow, short, and what the other two are tested against.
enum class InstructionSet { kReference, kAvx2, kAvx512 };

/// The best the processor has, or what USMLITE_ISA (reference, avx2, avx512) or set_instruction_set asked for.
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

#define USMLITE_DISPATCH(function)                                                                         \
  template <typename... Arguments>                                                                         \
  inline auto function(Arguments&&... arguments) {                                                         \
    switch (::usmlite::active_instruction_set()) {                                                         \
      case ::usmlite::InstructionSet::kAvx512: return avx512::function(std::forward<Arguments>(arguments)...); \
      case ::usmlite::InstructionSet::kAvx2: return avx2::function(std::forward<Arguments>(arguments)...);  \
      default: return reference::function(std::forward<Arguments>(arguments)...);                          \
    }                                                                                                      \
  }
