#include "cuda/matmul.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"
#include "cuda/kernel_architecture.hpp"
#include "cuda/matmul_grouped_int8.hpp"

namespace usmlite::cuda {

namespace {

bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

void check_weight(const WeightView& w) {
  if (w.group_size != 0 && w.group_size != 32 && w.group_size != 64 && w.group_size != 128) {
    throw Error(error_code::kUnsupportedSpec,
                "GPU kernels take a scale for every 32, 64 or 128 inputs, not " + std::to_string(w.group_size));
  }
  if (w.arithmetic == Arithmetic::kFloat8 && kernel_architecture() < 89) {
    throw Error(error_code::kUnsupportedSpec, "this GPU does not multiply e4m3 floats; one of compute capability 8.9 or later does");
  }
  // The sum of products of 8-bit numbers has 32 bits (int4 codes are multiplied by 16), one bit less where levels are unsigned.
  const int most_inputs = is_grouped_int8(w) && !w.group_size ? 65536 : 131072;
  if (w.arithmetic == Arithmetic::kInt8 && w.inputs > most_inputs) {
    throw Error(error_code::kUnsupportedSpec,
                "whole-number arithmetic takes up to " + std::to_string(most_inputs) + " inputs of this weight, not " + std::to_string(w.inputs));
  }
}

void check_activations(const MatmulArguments& m) {
  const WeightView& w = m.weight;
  const int bytes = element_bytes(w.arithmetic), unit = 16 / bytes;
  const int64_t columns = (w.inputs + unit - 1) / unit * unit;  // rows are copied in units of 16 bytes
  if (m.x_stride % unit != 0 || m.x_stride < columns || !is_aligned(m.x)) {
    throw Error(error_code::kInvalidArgument, "rows of activations must begin at multiples of 16 bytes of GPU memory");
  }
  if (bytes == 1 && !m.row_scales) {
    throw Error(error_code::kInvalidArgument, "activations of 8 bits need a scale for each row");
  }
  if (m.row_offsets && !w.channel_sums) {
    throw Error(error_code::kInvalidArgument, "activations with offsets need the sums of the weight's channels");
  }
  const int outputs = m.activation == Activation::kGlu ? w.channels / 2 : w.channels;
  if (m.activation == Activation::kGlu && w.channels % 16 != 0) {
    throw Error(error_code::kInvalidArgument, "a gated product takes a multiple of 16 channels, values and gates together, not " +
                                                  std::to_string(w.channels));
  }
  if (m.y_stride < outputs) throw Error(error_code::kInvalidArgument, "rows of the product overlap: their stride is too small");
}

int token_tiles(const WeightView& weight, int tokens) {
  const int tile = few_tokens_tile(weight, tokens);
  return (tokens + tile - 1) / tile;
}

/// More tiles than these would take too much memory for partial sums; they also keep all multiprocessors busy without.
constexpr int kMostSharingTiles = 2;

}  // namespace

MatmulWorkspace matmul_workspace(const WeightView& weight, int tokens, const ProductPlan& plan) {
  if (plan.kernel == ProductPlan::Kernel::kManyTokensSm90) {
    const ManyTokensWorkspace workspace = many_tokens_workspace(weight, tokens, plan.many);
    return {workspace.partial_sums, workspace.counters};
  }
  if (plan.kernel == ProductPlan::Kernel::kManyTokensSm80 || plan.kernel == ProductPlan::Kernel::kGroupedInt8) return {0, 0};
  if (tokens <= 0 || !shares_bands(plan.few)) return {0, 0};
  const int tiles = std::min(token_tiles(weight, tokens), kMostSharingTiles);
  return {tiles * partial_sum_count(plan.few, few_tokens_tile(weight, tokens)), tiles * plan.few.bands};
}

void matmul(const MatmulArguments& arguments, StreamHandle stream, const ProductPlan& product_plan) {
  check_weight(arguments.weight);
  check_activations(arguments);
  if (arguments.tokens <= 0) return;
  if (is_grouped_int8(arguments.weight)) return matmul_grouped_int8(arguments, stream);
  FewTokensPlan plan = product_plan.few;
  if (product_plan.kernel == ProductPlan::Kernel::kManyTokensSm90) {
    if (matmul_many_tokens_sm90(arguments, product_plan.many, stream)) return;
  } else if (product_plan.kernel == ProductPlan::Kernel::kManyTokensSm80) {
    if (matmul_many_tokens_sm80(arguments, product_plan.many_sm80, stream)) return;
  }
  if (product_plan.kernel != ProductPlan::Kernel::kFewTokens) {
    plan = choose_product_plan(arguments.weight, arguments.tokens, MatmulKernel::kFewTokens).few;
  }
  if (shares_bands(plan) && !(arguments.partial_sums && arguments.counters)) {
    const GpuProperties& gpu = gpu_properties();
    plan = plan_few_tokens(arguments.weight, gpu.multiprocessors, static_cast<size_t>(gpu.shared_bytes_per_block), false);
  }
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
    part.row_offsets = arguments.row_offsets ? arguments.row_offsets + first : nullptr;
    matmul_few_tokens(part, plan, stream);
  }
}

}  // namespace usmlite::cuda
