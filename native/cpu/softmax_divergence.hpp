// Kullback-Leibler divergence between two softmax distributions (Hinton et al. 2015): what a student is taught by.
#pragma once
#include <cstdint>

#include "core/instruction_set.hpp"

namespace usmlite::cpu {

USMLITE_FOR_EACH_ISA(
  // divergences (rows): sum_c q_c (ln q_c - ln p_c) with p = softmax(student / temperature), q = softmax(teacher / temperature).
  // gradient (rows, columns) or null: of a divergence times temperature with respect to the student's logits, p - q.
  // NaN where a logit is not finite.
  void softmax_divergence(const float* student, const float* teacher, int64_t rows, int64_t columns, float temperature,
                          float* divergences, float* gradient);
)
USMLITE_DISPATCH(softmax_divergence)

}  // namespace usmlite::cpu
