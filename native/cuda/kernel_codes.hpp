// The codes in which the kernels take a packed weight.
#pragma once
#include <string>

#include "codec/weight_spec.hpp"
#include "cuda/fragment_order.hpp"

namespace usmlite::cuda {

inline bool is_16_bit(Arithmetic arithmetic) { return arithmetic == Arithmetic::kBFloat16 || arithmetic == Arithmetic::kFloat16; }

/// Throws UNSUPPORTED_SPEC: `sentence` says what the kernels lack and what would do.
[[noreturn]] void unsupported_on_gpu(const codec::WeightSpec& spec, const std::string& sentence);

/// The smallest codes that hold all values of a format. Throws UNSUPPORTED_SPEC when the kernels have none for this weight and
/// arithmetic.
Codes kernel_codes(const codec::WeightSpec& spec, Arithmetic arithmetic);

}  // namespace usmlite::cuda
