#include "cuda/shared_heads.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kHeadSumThreads = 128;  // a block takes a frame

__global__ void __launch_bounds__(kHeadSumThreads) head_sums_kernel(const uint16_t* each, int64_t each_stride, int heads_per_key, int head_dim,
                                                                    uint16_t* sum, int64_t sum_stride, int columns) {
  ptx::take_turn();
  const uint16_t* from = each + blockIdx.x * each_stride;
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += kHeadSumThreads) {
    float total = 0.0f;
    for (int head = i / head_dim * heads_per_key, end = head + heads_per_key; head < end; ++head) {
      total += ptx::to_float<BFloat16>(from[head * head_dim + i % head_dim]);
    }
    sum[blockIdx.x * sum_stride + i] = ptx::from_float<BFloat16>(total);
  }
}

}  // namespace

HeadGradients::HeadGradients(const DeviceMatrix& sum, int64_t columns, const Stream& stream)
    : sum_(sum), columns_(columns) {
  if (is_shared()) each_ = ScratchMatrix(sum.type(), sum.rows(), columns, stream);
}

void HeadGradients::add_up(int head_dim, const Stream& stream) const {
  if (!is_shared() || sum_.rows() == 0) return;
  launch(head_sums_kernel,
         LaunchShape{static_cast<unsigned>(sum_.rows()), 1, 1, kHeadSumThreads, 0, 1, kernels_take_turns()}, stream.handle(),
         each_.use_on<uint16_t>(stream), each_.row_stride(), static_cast<int>(each_.columns() / sum_.columns()), head_dim,
         sum_.use_on<uint16_t>(stream), sum_.row_stride(), static_cast<int>(sum_.columns()));
}

}  // namespace usmlite::cuda
