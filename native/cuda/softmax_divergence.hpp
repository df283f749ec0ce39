// How far the distributions of a student are from those of a teacher, and what the teacher thinks of one column.
#pragma once
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {

/// divergences (rows) float32 = KL(softmax(teacher / temperature) || softmax(student / temperature)) of each row of logits (rows, columns)
/// bfloat16; gradient, unless null, like student: softmax(student / temperature) - softmax(teacher / temperature). NaN where a logit is.
void softmax_divergence(const DeviceTensor& student, const DeviceTensor& teacher, float temperature, const DeviceTensor& divergences,
                        const DeviceTensor* gradient, const std::shared_ptr<Stream>& stream);

/// probabilities (rows) float32: softmax of each row of logits (rows, columns) bfloat16, at `column`.
void column_probability(const DeviceTensor& logits, int64_t column, const DeviceTensor& probabilities, const std::shared_ptr<Stream>& stream);

}  // namespace usmlite::cuda
