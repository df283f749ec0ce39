// From an arithmetic's codes, sparsity and tile of tokens to the kernel that was made for them.
#pragma once

#include "cuda/few_tokens_kernel.cuh"
#include "cuda/launch.hpp"
#include "cuda/matmul_few_tokens.hpp"

namespace usmlite::cuda {

/// Each returns false where there is no kernel for the weight's codes. Defined in a file for each arithmetic, so that
/// these compile side by side.
bool launch_few_tokens_bfloat16(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);
bool launch_few_tokens_float16(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);
bool launch_few_tokens_int8(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);
bool launch_few_tokens_float8(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);

/// The kernel begins to read its weight before the kernel before it in the stream has ended, where the GPU can do that.
template <Codes C, Arithmetic A, bool kSparse>
void launch_few_tokens(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  const int tile = few_tokens_tile(arguments.weight, arguments.tokens), stages = few_tokens_stages(arguments.weight, plan, tile);
  const LaunchShape shape{.grid_x = static_cast<unsigned>(plan.thread_blocks),
                          .grid_y = static_cast<unsigned>((arguments.tokens + tile - 1) / tile),
                          .grid_z = 1,
                          .threads = static_cast<unsigned>(plan.threads()),
                          .shared_bytes = few_tokens_shared_bytes(arguments.weight, plan, tile, stages),
                          .overlaps_previous = kernels_take_turns()};
  const FewTokensLayout layout = few_tokens_layout(arguments.weight, plan, tile, stages);
  const auto launch_tile = [&]<int kTokens>() {
    constexpr bool kUsed = few_tokens_tile(C, A, kSparse, kTokens) == kTokens;
    if constexpr (kUsed) launch(few_tokens_kernel<C, A, kSparse, kTokens>, shape, stream, arguments, plan, layout);
  };
  switch (tile) {
    case 8: return launch_tile.template operator()<8>();
    case 16: return launch_tile.template operator()<16>();
    default: return launch_tile.template operator()<32>();
  }
}

/// Weight-only quantization: the arithmetic is A, a 16-bit float.
template <Arithmetic A>
bool launch_few_tokens_weight_only(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  const WeightView& w = arguments.weight;
  if (w.sparse) {
    switch (w.codes) {
      case Codes::kUint8: return launch_few_tokens<Codes::kUint8, A, true>(arguments, plan, stream), true;
      case Codes::kUint4: return launch_few_tokens<Codes::kUint4, A, true>(arguments, plan, stream), true;
      case Codes::kUint2: return launch_few_tokens<Codes::kUint2, A, true>(arguments, plan, stream), true;
      case Codes::kFloat16Bit: return launch_few_tokens<Codes::kFloat16Bit, A, true>(arguments, plan, stream), true;
      case Codes::kInt8: return launch_few_tokens<Codes::kInt8, A, true>(arguments, plan, stream), true;
      case Codes::kInt4: return launch_few_tokens<Codes::kInt4, A, true>(arguments, plan, stream), true;
      case Codes::kInt2: return launch_few_tokens<Codes::kInt2, A, true>(arguments, plan, stream), true;
      default: return false;
    }
  }
  switch (w.codes) {
    case Codes::kUint8: return launch_few_tokens<Codes::kUint8, A, false>(arguments, plan, stream), true;
    case Codes::kUint4: return launch_few_tokens<Codes::kUint4, A, false>(arguments, plan, stream), true;
    case Codes::kUint2: return launch_few_tokens<Codes::kUint2, A, false>(arguments, plan, stream), true;
    case Codes::kFloat16Bit: return launch_few_tokens<Codes::kFloat16Bit, A, false>(arguments, plan, stream), true;
    case Codes::kInt8: return launch_few_tokens<Codes::kInt8, A, false>(arguments, plan, stream), true;
    case Codes::kInt4: return launch_few_tokens<Codes::kInt4, A, false>(arguments, plan, stream), true;
    case Codes::kInt3: return launch_few_tokens<Codes::kInt3, A, false>(arguments, plan, stream), true;
    case Codes::kInt2: return launch_few_tokens<Codes::kInt2, A, false>(arguments, plan, stream), true;
    case Codes::kInt1: return launch_few_tokens<Codes::kInt1, A, false>(arguments, plan, stream), true;
    case Codes::kNormalFloat4: return launch_few_tokens<Codes::kNormalFloat4, A, false>(arguments, plan, stream), true;
    default: return false;
  }
}

}  // namespace usmlite::cuda
