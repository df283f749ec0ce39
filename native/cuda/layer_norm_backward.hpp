// Gradients of layer normalisation.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// Values of a frame that a block has threads for.
inline constexpr int kWidestNormalizedFrame = 4096;

struct LayerNormBackwardArguments {
  const DeviceMatrix* x;         // (frames, hidden): what was normalised
  const DeviceMatrix* weight;    // (hidden) float32
  const DeviceMatrix* gradient;  // (frames, hidden), like x: of the result
  float epsilon;
  const DeviceMatrix* gradient_x;       // (frames, hidden), like x, or null
  bool adds_to_x;                       // to what gradient_x holds, from a residual connection around the layer
  const DeviceMatrix* gradient_weight;  // (hidden) float32, or null
  const DeviceMatrix* gradient_bias;    // (hidden) float32, or null
};

/// Mean and variance are computed again from x, which is read anyway.
void layer_norm_backward(const LayerNormBackwardArguments& arguments, const Stream& stream);

}  // namespace usmlite::cuda
