#include "cuda/sum_parts.hpp"

#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kSumColumns = 32, kSumRows = 8, kSumThreads = kSumColumns * kSumRows;
constexpr int64_t kBlocksPerMultiprocessor = 4;

__global__ void __launch_bounds__(kSumThreads) sum_parts_kernel(const float* partial, int64_t partial_stride, int parts, const PartSums a) {
  ptx::take_turn();
  auto* shared = reinterpret_cast<float*>(shared_memory());
  const int row = static_cast<int>(threadIdx.x) / kSumColumns, lane = static_cast<int>(threadIdx.x) % kSumColumns;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumColumns + lane;
  float sum = 0.0f;
  if (column < a.columns) {
    for (int part = row; part < parts; part += kSumRows) sum += partial[part * partial_stride + a.first_column + column];
  }
  shared[threadIdx.x] = sum;
  ptx::block_sync();
  if (row > 0 || column >= a.columns || column % a.inner >= a.used) return;
#pragma unroll
  for (int i = 1; i < kSumRows; ++i) sum += shared[i * kSumColumns + lane];
  a.sums[column % a.inner * a.stride + column / a.inner] = sum;
}

}  // namespace

void sum_parts(const DeviceMatrix& partial, const PartSums& sums, const Stream& stream) {
  if (sums.columns == 0) return;
  launch(sum_parts_kernel,
         LaunchShape{static_cast<unsigned>((sums.columns + kSumColumns - 1) / kSumColumns), 1, 1, kSumThreads, kSumThreads * sizeof(float), 1,
                     kernels_take_turns()},
         stream.handle(), partial.use_on<float>(stream), partial.row_stride(), static_cast<int>(partial.rows()), sums);
}

int64_t parts_of(int64_t frames, int64_t least, int64_t others) {
  const int64_t most = std::max<int64_t>(1, (frames + least - 1) / least);
  return std::clamp<int64_t>(gpu_properties().multiprocessors * kBlocksPerMultiprocessor / std::max<int64_t>(others, 1), 1, most);
}

}  // namespace usmlite::cuda
