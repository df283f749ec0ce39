// Cross-entropy between a softmax distribution and a label, with label smoothing (Szegedy et al. 2016).
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // losses (rows): -sum_c q_c ln softmax(logits)_c with q = smoothing / columns everywhere and 1 - smoothing more at the row's label.
  // gradient (rows, columns) or null: softmax(logits) - q. A label of -1 gives a loss and a gradient of zero; a row with a logit that is
  // not finite gives NaN.
  void cross_entropy(const float* logits, const int32_t* labels, int64_t rows, int64_t columns, float smoothing, float* losses,
                     float* gradient);
)
USMLITE_DISPATCH(cross_entropy)

}  // namespace usmlite::cpu
