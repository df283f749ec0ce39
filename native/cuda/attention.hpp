// Softmax attention within each sequence of a packed batch: scores are made tile by tile and never stored (Dao et al. 2022).
#pragma once
#include "core/dropout.hpp"
#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// Frames before and after a frame that it sees of its sequence.
struct AttentionWindow {
  static constexpr int kAll = 1 << 28;  // twice it is an int, and more than the frames of any sequence
  int left = kAll, right = kAll;
};

/// For every sequence and head, with i and j frames of the sequence:
///   out_i = sum_j softmax_j(scale * score(i, j)) v_j,   score(i, j) = q_i . k_j
/// or, with relative positions (Transformer-XL, Dai et al. 2019), (q_i + u) . k_j + (q_i + v) . p(i - j).
struct AttentionArguments {
  const DeviceMatrix* query;         // (frames, heads * head_dim) 16-bit floats of one type
  const DeviceMatrix *key, *value;   // (frames, key_heads * head_dim): heads / key_heads heads of the query share one
  int heads, key_heads;
  float scale;
  // Relative positions, all null without:
  const DeviceMatrix* positions;      // (rows, heads * head_dim): row n is p(origin - n)
  const DeviceMatrix* content_bias;   // u (heads * head_dim), 16-bit floats
  const DeviceMatrix* position_bias;  // v (heads * head_dim)
  int origin;
  AttentionWindow window = {};        // other frames have no weight; only with relative positions
  // For inference: the same bits of a sequence however many there are and however long they are. Otherwise few queries have their keys
  // divided among blocks, whose sums are added in the order of the keys.
  bool batch_invariant = false;
  // For training:
  // (heads, frames) float32: log(sum(exp(scores))) for the backward pass, of bfloat16 alone; null in inference
  const DeviceMatrix* log_sum;
  Dropout dropout;              // of the probabilities; needs log_sum
  // Without relative positions, and with log_sum:
  const PackedSequences* keys = nullptr;  // where keys and values of each sequence lie; null: where its queries do
  bool causal = false;                    // the last query of a sequence sees all of its keys, the one before all but the last, ..
};

/// Head dimensions are multiples of 8 up to 160; in training up to 128, whose gradients fit into registers.
inline constexpr int kLargestHeadDimension = 160, kLargestTrainedHeadDimension = 128;

void attention(const AttentionArguments& arguments, const PackedSequences& sequences, const DeviceMatrix& out,
               const Stream& stream);

}  // namespace usmlite::cuda
