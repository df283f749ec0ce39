// Cross-entropy between softmax distributions and labels, with label smoothing (Szegedy et al. 2016).
#pragma once
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

struct CrossEntropyArguments {
  const DeviceMatrix* logits;  // (rows, columns) bfloat16
  PackedSequences labels;      // one sequence of as many rows: a column for each row of logits, or `columns` for rows that do not count
  float smoothing;             // share of a label's probability that is spread over all columns alike
  float factor;                // of the gradient
  const DeviceMatrix* losses;    // float32 (rows): what cpu::cross_entropy says; 0 for rows that do not count, NaN where a logit is not finite
  const DeviceMatrix* gradient;  // like logits: factor * (softmax - label's distribution); or null
};
void cross_entropy(const CrossEntropyArguments& arguments, const Stream& stream);

}  // namespace usmlite::cuda
