#include "cuda/dense_gemm_sm90.hpp"

#include "cuda/dense_gemm_sm90.cuh"
#include "cuda/many_tokens_tiles.hpp"

namespace usmlite::cuda {

namespace {

template <Arithmetic A, class T> void start(const MatmulArguments& arguments, const void* w, int64_t w_stride, StreamHandle stream) {
  launch_dense_gemm<DenseGemm<A, T>>(arguments, w, w_stride, stream);
}

}  // namespace

void dense_gemm_sm90(const MatmulArguments& arguments, const void* w, int64_t w_stride, ManyTokensTile tile, StreamHandle stream) {
  if (arguments.weight.arithmetic == Arithmetic::kFloat16) {
    return start<Arithmetic::kFloat16, MediumTile>(arguments, w, w_stride, stream);
  }
  switch (tile) {
    case ManyTokensTile::kSmall: return start<Arithmetic::kBFloat16, SmallTile>(arguments, w, w_stride, stream);
    case ManyTokensTile::kTall:
    case ManyTokensTile::kMedium: return start<Arithmetic::kBFloat16, MediumTile>(arguments, w, w_stride, stream);
    case ManyTokensTile::kLoneLarge:
    case ManyTokensTile::kLarge: return start<Arithmetic::kBFloat16, LargeTile>(arguments, w, w_stride, stream);
  }
}

}  // namespace usmlite::cuda
