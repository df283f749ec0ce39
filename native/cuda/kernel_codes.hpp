// The codes in which the kernels take a packed weight.
#pragma once
#include <string>

#include "codec/weight_spec.hpp"
#include "cuda/fragment_order.hpp"

namespace usmlite::cuda {

inline bool is_16_bit(Arithmetic arithmetic) { return arithmetic == Arithmetic::kBFloat16 || arithmetic == Arithmetic::kFloat16; }

/// Throws UNSUPPORTED_SPEC: `sentence` says what the kernels lack and what would do.
[[noreturn]] void unsupported_on_gpu(const codec::WeightSpec& spec, const std::string& sentence);

/// How the kernels take a packed weight.
struct KernelForm {
  /// The smallest that hold all values of the format.
  Codes codes;
  /// Multiplied by sparse tensor cores. Other sparse weights are dense ones with zeros.
  bool sparse;
  /// Codes are floats of 16 bits that the scales and zero points are part of: a pruned weight has to be zero, and codes with zero points have none.
  bool widened;
  /// Whole numbers whose scales of groups, or zero points, enter the product on the way (is_grouped_int8).
  bool grouped_int8;
};

/// Throws UNSUPPORTED_SPEC when the kernels have no form for this weight and arithmetic.
KernelForm kernel_form(const codec::WeightSpec& spec, Arithmetic arithmetic);

/// The whole numbers of such a form, level = step * code + shift: what fits a byte, or a nibble, with its sign.
struct LevelCoding {
  int32_t step, shift;
  int32_t code(int32_t level) const { return (level - shift) / step; }
};
LevelCoding level_coding(const codec::WeightSpec& spec);

}  // namespace usmlite::cuda
