// How far the distributions of a student are from those of a teacher, and how much rows count in their mean.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// divergences (rows) float32 = KL(softmax(teacher / temperature) || softmax(student / temperature)) of each row of logits (rows, columns)
/// bfloat16; gradient, unless null, like student: softmax(student / temperature) - softmax(teacher / temperature). NaN where a logit is.
void softmax_divergence(const DeviceMatrix& student, const DeviceMatrix& teacher, float temperature, const DeviceMatrix& divergences,
                        const DeviceMatrix* gradient, const Stream& stream);

/// weights (rows) float32: what the softmax of each row of logits (rows, columns) bfloat16 leaves for all columns but `column`, or with `whole`
/// 1 where that is more than a half and 0 elsewhere.
void weight_of_others(const DeviceMatrix& logits, int64_t column, bool whole, const DeviceMatrix& weights, const Stream& stream);

/// shares (rows) float32: the weights over their sum, all alike where `weights` is null, zeros where the sum is. mean (1) float32 = factor times
/// the sum of shares times divergences; rows without a share take no part, whatever they hold.
void mean_divergence(const DeviceMatrix& divergences, const DeviceMatrix* weights, float factor, const DeviceMatrix& shares, const DeviceMatrix& mean,
                     const Stream& stream);

/// x (rows, columns) bfloat16 *= factor * shares[row] * upstream[0]; rows without a share become zeros.
void scale_rows(const DeviceMatrix& x, const DeviceMatrix& shares, const DeviceMatrix& upstream, float factor, const Stream& stream);

}  // namespace usmlite::cuda
