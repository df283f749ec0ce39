// What an optimizer does with all parameters at once: gradient norm, AdamW, moving average of weights.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

/// One parameter tensor and its optimizer state, `count` elements each.
struct AdamWParameter {
  float* value;
  const float* gradient;
  float* first_moment;
  float* second_moment;
  int64_t count;
  float learning_rate;
  float weight_decay;  // decoupled; multiplied by the learning rate
};

struct AdamWStep {
  float beta1, beta2, epsilon;
  float first_correction, second_correction;  // 1 - beta1^t, 1 - beta2^t
  float gradient_scale;                       // of gradient clipping
};

/// A tensor that follows another.
struct AverageParameter {
  float* average;
  const float* value;
  int64_t count;
};

/// Elements of one tensor.
struct Span {
  const float* values;
  int64_t count;
};

USMLITE_FOR_EACH_ISA(
  // Loshchilov and Hutter, "Decoupled weight decay regularization" (ICLR 2019), algorithm 2, with g the scaled gradient:
  //   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
  //   w = w (1 - lr decay) - lr (m / c1) / (sqrt(v / c2) + epsilon)
  void adamw(const AdamWParameter* parameters, int64_t tensors, const AdamWStep& step);
  // Sum of squares of all elements, added up in an order that does not depend on the number of threads.
  double sum_of_squares(const Span* spans, int64_t tensors);
  // average = decay average + (1 - decay) value
  void update_average(const AverageParameter* parameters, int64_t tensors, float decay);
)
USMLITE_DISPATCH(adamw)
USMLITE_DISPATCH(sum_of_squares)
USMLITE_DISPATCH(update_average)

}  // namespace usmlite::cpu
