#include "cuda/matmul.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"
#include "cuda/kernel_architecture.hpp"
#include "cuda/matmul_few_tokens.hpp"
#include "cuda/matmul_many_tokens_sm80.hpp"
#include "cuda/matmul_many_tokens_sm90.hpp"

namespace usmlite::cuda {

namespace {

bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

void check_weight(const WeightView& w) {
  const bool float_arithmetic = element_bytes(w.arithmetic) == 2;
  if (w.group_size != 0 && !float_arithmetic) {
    throw Error(error_code::kUnsupportedSpec, "8-bit arithmetic takes one scale per channel; weights with scales per group of "
                                              "inputs are multiplied in bfloat16 or float16");
  }
  if (w.group_size != 0 && w.group_size != 32 && w.group_size != 64 && w.group_size != 128) {
    throw Error(error_code::kUnsupportedSpec,
                "GPU kernels take a scale for every 32, 64 or 128 inputs, not " + std::to_string(w.group_size));
  }
  if (w.arithmetic == Arithmetic::kFloat8 && kernel_architecture() < 89) {
    throw Error(error_code::kUnsupportedSpec, "this GPU does not multiply e4m3 floats; one of compute capability 8.9 or later does");
  }
  // The sum of products of 8-bit numbers has 32 bits (int4 codes are multiplied by 16).
  if (w.arithmetic == Arithmetic::kInt8 && w.inputs > 131072) {
    throw Error(error_code::kUnsupportedSpec, "whole-number arithmetic takes up to 131072 inputs, not " + std::to_string(w.inputs));
  }
}

void check_activations(const MatmulArguments& m) {
  const WeightView& w = m.weight;
  const int bytes = element_bytes(w.arithmetic), unit = 16 / bytes;
  // Rows are copied in units of 16 bytes. For 8 bits, quantize_rows fills the last one with zeros.
  const int64_t columns = bytes == 2 ? w.inputs : (w.inputs + unit - 1) / unit * unit;
  if (w.inputs % 8 != 0) {
    throw Error(error_code::kInvalidArgument,
                "GPU kernels take activations with a multiple of 8 columns, not " + std::to_string(w.inputs));
  }
  if (m.x_stride % unit != 0 || m.x_stride < columns || !is_aligned(m.x)) {
    throw Error(error_code::kInvalidArgument, "rows of activations must begin at multiples of 16 bytes of GPU memory");
  }
  if (bytes == 1 && !m.row_scales) {
    throw Error(error_code::kInvalidArgument, "activations of 8 bits need a scale for each row");
  }
  const int outputs = m.activation == Activation::kGlu ? w.channels / 2 : w.channels;
  if (m.activation == Activation::kGlu && w.channels % 16 != 0) {
    throw Error(error_code::kInvalidArgument, "a gated product takes a multiple of 16 channels, values and gates together, not " +
                                                  std::to_string(w.channels));
  }
  if (m.y_stride < outputs) throw Error(error_code::kInvalidArgument, "rows of the product overlap: their stride is too small");
}

FewTokensPlan plan_for(const WeightView& weight, bool may_share) {
  const GpuProperties& gpu = gpu_properties();
  const FewTokensPlan plan = plan_few_tokens(weight, gpu.multiprocessors, static_cast<size_t>(gpu.shared_bytes_per_block), may_share);
  if (plan.teams == 0) {
    throw Error(error_code::kUnsupportedSpec, "this GPU has too little shared memory for the product of weights of these codes");
  }
  return plan;
}

int token_tiles(const WeightView& weight, int tokens) {
  const int tile = few_tokens_tile(weight, tokens);
  return (tokens + tile - 1) / tile;
}

/// Whether the kernels for many tokens are asked for or faster.
bool takes_many_tokens(const WeightView& weight, int tokens, MatmulKernel kernel) {
  if (kernel == MatmulKernel::kFewTokens) return false;
  return kernel == MatmulKernel::kManyTokens || tokens > most_few_tokens(weight);
}

/// False where there is no kernel for many tokens of the weight's codes and arithmetic. Hopper's own run on Hopper alone.
bool start_many_tokens(const MatmulArguments& arguments, StreamHandle stream) {
  if (kernel_architecture() != 90) {
    return matmul_many_tokens_sm80(arguments, many_tokens_tile_sm80(arguments.weight.channels, arguments.tokens), stream);
  }
  return matmul_many_tokens_sm90(arguments, many_tokens_tile(arguments.weight, arguments.tokens), stream);
}

/// More tiles than these would take too much memory for partial sums; they also keep all multiprocessors busy without.
constexpr int kMostSharingTiles = 2;

}  // namespace

int most_few_tokens(const WeightView&) { return 64; }

MatmulWorkspace matmul_workspace(const WeightView& weight, int tokens, MatmulKernel kernel) {
  if (takes_many_tokens(weight, tokens, kernel)) return {0, 0};
  const FewTokensPlan plan = plan_for(weight, true);
  if (tokens <= 0 || !shares_bands(plan)) return {0, 0};
  const int tiles = std::min(token_tiles(weight, tokens), kMostSharingTiles);
  return {tiles * partial_sum_count(plan, few_tokens_tile(weight, tokens)), tiles * plan.bands};
}

void matmul(const MatmulArguments& arguments, StreamHandle stream, MatmulKernel kernel) {
  check_weight(arguments.weight);
  check_activations(arguments);
  if (arguments.tokens <= 0) return;
  if (takes_many_tokens(arguments.weight, arguments.tokens, kernel)) {
    if (start_many_tokens(arguments, stream)) return;
  }
  const bool has_workspace = arguments.partial_sums && arguments.counters;
  const FewTokensPlan plan = plan_for(arguments.weight, has_workspace);
  // Parts of at most kMostSharingTiles tiles use the same partial sums one after another.
  MatmulArguments part = arguments;
  const int step = shares_bands(plan) ? kMostSharingTiles * few_tokens_tile(arguments.weight, arguments.tokens) : arguments.tokens;
  const int output_bytes = 2, input_bytes = element_bytes(arguments.weight.arithmetic);
  for (int first = 0; first < arguments.tokens; first += step) {
    part.tokens = std::min(step, arguments.tokens - first);
    const auto advance = [&](const void* rows, int64_t stride, int bytes) {
      return rows ? static_cast<const uint8_t*>(rows) + first * stride * bytes : nullptr;
    };
    part.x = advance(arguments.x, arguments.x_stride, input_bytes);
    part.y = const_cast<uint8_t*>(advance(arguments.y, arguments.y_stride, output_bytes));
    part.residual = advance(arguments.residual, arguments.y_stride, output_bytes);
    part.row_scales = arguments.row_scales ? arguments.row_scales + first : nullptr;
    matmul_few_tokens(part, plan, stream);
  }
}

}  // namespace usmlite::cuda
