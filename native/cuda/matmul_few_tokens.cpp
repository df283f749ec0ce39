#include "cuda/matmul_few_tokens.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace usmlite::cuda {

// Defined beside the kernels (few_tokens_launch.cuh), which only the CUDA compiler reads.
bool launch_few_tokens_bfloat16(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);
bool launch_few_tokens_float16(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);
bool launch_few_tokens_int8(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);
bool launch_few_tokens_float8(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream);

void matmul_few_tokens(const MatmulArguments& arguments, const FewTokensPlan& plan, StreamHandle stream) {
  const auto start = [&](const MatmulArguments& m) {
    switch (m.weight.arithmetic) {
      case Arithmetic::kBFloat16: return launch_few_tokens_bfloat16(m, plan, stream);
      case Arithmetic::kFloat16: return launch_few_tokens_float16(m, plan, stream);
      case Arithmetic::kFloat8: return launch_few_tokens_float8(m, plan, stream);
      default: return launch_few_tokens_int8(m, plan, stream);
    }
  };
  if (!start(arguments)) {
    throw Error(error_code::kUnsupportedSpec, "no GPU kernel multiplies weights of these codes in this arithmetic; "
                                              "integer arithmetic takes dense or 2:4 int8 and int4, float arithmetic "
                                              "dense int1 to int8 and nf4, and 2:4 int2, int4 and int8");
  }
}

}  // namespace usmlite::cuda
