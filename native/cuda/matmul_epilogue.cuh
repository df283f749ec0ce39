// What becomes of the sums of a matrix product before they are stored (MatmulArguments): shared by all matmul kernels.
//
// Lane 4 g + t holds sums of the channels g and g + 8 of tiles of 16. All arithmetic is in float32; the result is rounded
// to 16 bits once, at the end.
#pragma once

#include "cuda/dequantize.cuh"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// The type of outputs and residuals.
template <Arithmetic A> struct OutputOf { using Type = BFloat16; };
template <> struct OutputOf<Arithmetic::kFloat16> { using Type = Float16; };
template <Arithmetic A> using Output = typename OutputOf<A>::Type;

/// Scale and bias of two channels.
struct ChannelPair {
  float scale[2], bias[2];
};

/// Channels in the padding may be asked for (both arrays are padded).
__device__ __forceinline__ ChannelPair load_channel_pair(const MatmulArguments& m, int first, int second) {
  const float factor = code_factor(m.weight.codes, m.weight.arithmetic);
  ChannelPair pair{{factor, factor}, {0.0f, 0.0f}};
  if (const float* const scales = m.weight.channel_scales) pair.scale[0] *= scales[first], pair.scale[1] *= scales[second];
  if (m.bias) pair.bias[0] = m.bias[first], pair.bias[1] = m.bias[second];
  return pair;
}

/// The channels g and g + 8 of a tile, of which `channel` is the first.
__device__ __forceinline__ ChannelPair load_channel_pair(const MatmulArguments& m, int channel) {
  return load_channel_pair(m, channel, channel + 8);
}

/// A pair of channels for a token whose activations have an offset: each channel gets it times the sum of its weights, before
/// anything else does, so as part of the bias.
__device__ __forceinline__ ChannelPair with_row_offset(const MatmulArguments& m, ChannelPair pair, int token, int first, int second) {
  if (m.row_offsets) {
    const float offset = m.row_offsets[token];
    pair.bias[0] = fmaf(offset, m.weight.channel_sums[first], pair.bias[0]);
    pair.bias[1] = fmaf(offset, m.weight.channel_sums[second], pair.bias[1]);
  }
  return pair;
}

__device__ __forceinline__ float sigmoid(float x) { return ptx::reciprocal(1.0f + ptx::exponential(-x)); }

/// Replaces values by what an activation makes of them. `gates`: of kGlu; with all others they are the values, so that a SiLU is a
/// GLU that is its own gate and both take one place in a kernel. The choice stands outside of the loops: it is the same for all
/// threads.
template <int Count> __device__ __forceinline__ void activate(Activation activation, float (&values)[Count], const float (&gates)[Count]) {
  if (activation == Activation::kSilu || activation == Activation::kGlu) {
#pragma unroll
    for (int i = 0; i < Count; ++i) values[i] *= sigmoid(gates[i]);
  } else if (activation == Activation::kRelu) {
#pragma unroll
    for (int i = 0; i < Count; ++i) values[i] = values[i] < 0.0f ? 0.0f : values[i];  // keeps NaN
  } else if (activation == Activation::kGelu) {
#pragma unroll
    for (int i = 0; i < Count; ++i) values[i] *= 0.5f * (1.0f + ptx::error_function(values[i] * 0.70710678118654752f));
  }
}

/// Not for kGlu, which takes two values.
__device__ __forceinline__ float activate(Activation activation, float x) {
  float values[1] = {x};
  activate(activation, values, values);
  return values[0];
}

/// The sums of a token for two channels with scale and bias. `row_scale`: of the token, 1 without row scales.
__device__ __forceinline__ float2 scale_sums(const ChannelPair& pair, float row_scale, float first, float second) {
  return {first * (pair.scale[0] * row_scale) + pair.bias[0], second * (pair.scale[1] * row_scale) + pair.bias[1]};
}

/// Adds the residual to an output, rounds and stores it, if it is within y. `channel`: of y.
template <typename T>
__device__ __forceinline__ void store_output(const MatmulArguments& m, int token, int channel, float value) {
  const int channels = m.activation == Activation::kGlu ? m.weight.channels / 2 : m.weight.channels;
  if (token >= m.tokens || channel >= channels) return;
  const int64_t index = token * m.y_stride + channel;
  if (m.residual) value += ptx::to_float<T>(static_cast<const uint16_t*>(m.residual)[index]) * m.residual_scale;
  static_cast<uint16_t*>(m.y)[index] = ptx::from_float<T>(value);
}

/// Adjacent outputs of a token, `channel` an even one. `aligned`: y and the residual are aligned to 4 bytes at even channels.
template <typename T>
__device__ __forceinline__ void store_output_pair(const MatmulArguments& m, int token, int channel, float2 value, bool aligned) {
  const int channels = m.activation == Activation::kGlu ? m.weight.channels / 2 : m.weight.channels;
  if (!aligned || channel + 1 >= channels) {
    store_output<T>(m, token, channel, value.x);
    store_output<T>(m, token, channel + 1, value.y);
    return;
  }
  const int64_t index = token * m.y_stride + channel;
  if (m.residual) {
    const float2 residual = ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(m.residual) + index));
    value.x += residual.x * m.residual_scale, value.y += residual.y * m.residual_scale;
  }
  *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(m.y) + index) = ptx::round2<T>(value.x, value.y);
}

/// Adds the residual to adjacent outputs of a token and stores them, those within y, of a product whose outputs and residual are float32.
/// `channel`: the first, of y.
template <int Count>
__device__ __forceinline__ void store_wide_outputs(const MatmulArguments& m, int token, int channel, const float (&values)[Count]) {
  const int64_t index = token * m.y_stride + channel;
  const float* const residual = m.residual ? static_cast<const float*>(m.residual) + index : nullptr;
  float* const y = static_cast<float*>(m.y) + index;
  const int left = m.weight.channels - channel;
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (i < left) y[i] = residual ? values[i] + residual[i] * m.residual_scale : values[i];
  }
}

/// Whether store_output_pair's `aligned` holds.
__device__ __forceinline__ bool pairs_are_aligned(const MatmulArguments& m) {
  return m.y_stride % 2 == 0 && (reinterpret_cast<uintptr_t>(m.y) | reinterpret_cast<uintptr_t>(m.residual)) % 4 == 0;
}

}  // namespace usmlite::cuda
