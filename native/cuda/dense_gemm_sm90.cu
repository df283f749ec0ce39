#include "cuda/dense_gemm_sm90.hpp"

#include "cuda/dense_gemm_sm90.cuh"
#include "cuda/many_tokens_tiles.hpp"

namespace usmlite::cuda {

namespace {

template <Arithmetic A, class T> void start(const DenseGemmArguments& arguments, StreamHandle stream) {
  launch_dense_gemm<DenseGemm<A, T>>(arguments, stream);
}

}  // namespace

void dense_gemm_sm90(const DenseGemmArguments& arguments, ManyTokensTile tile, StreamHandle stream) {
  if (arguments.matmul.weight.arithmetic == Arithmetic::kFloat16) {
    return start<Arithmetic::kFloat16, MediumTile>(arguments, stream);
  }
  switch (tile) {
    case ManyTokensTile::kSmall: return start<Arithmetic::kBFloat16, SmallTile>(arguments, stream);
    case ManyTokensTile::kTall:
    case ManyTokensTile::kMedium: return start<Arithmetic::kBFloat16, MediumTile>(arguments, stream);
    case ManyTokensTile::kLoneLarge:
    case ManyTokensTile::kLarge: return start<Arithmetic::kBFloat16, LargeTile>(arguments, stream);
  }
}

}  // namespace usmlite::cuda
