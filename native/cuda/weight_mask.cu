#include "cuda/weight_mask.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kMaskThreads = 128;

struct MaskArguments {
  const float* x;
  float* y;
  int8_t* mask;
  int64_t stride, mask_stride;
  int64_t rows;
  int columns, kept, of;
  float pruned;
};

// A thread takes a group.
__global__ void __launch_bounds__(kMaskThreads) magnitude_mask_kernel(const MaskArguments a) {
  ptx::take_turn();
  const int groups = (a.columns + a.of - 1) / a.of;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMaskThreads + threadIdx.x, row = index / groups;
  if (row >= a.rows) return;
  const int begin = static_cast<int>(index % groups) * a.of, end = min(begin + a.of, a.columns);
  const float* x = a.x + row * a.stride;
  for (int i = begin; i < end; ++i) {
    const float own = fabsf(x[i]);
    int larger = 0;
    for (int j = begin; j < end; ++j) {
      const float other = fabsf(x[j]);
      larger += other > own || (other == own && j < i) ? 1 : 0;
    }
    a.mask[row * a.mask_stride + i] = larger < a.kept ? 1 : 0;
  }
}

__global__ void __launch_bounds__(kMaskThreads) apply_mask_kernel(const MaskArguments a) {
  ptx::take_turn();
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMaskThreads + threadIdx.x, row = index / a.columns;
  if (row >= a.rows) return;
  const int64_t column = index % a.columns, at = row * a.stride + column;
  const float x = a.x[at];
  a.y[at] = (a.mask[row * a.mask_stride + column] ? x : a.pruned * x) + 0.0f;
}

// A warp takes a row at a time.
__global__ void __launch_bounds__(kMaskThreads) count_mask_changes_kernel(const int8_t* before, int64_t before_stride, const int8_t* after,
                                                                          int64_t after_stride, int64_t rows, int columns, float* counts) {
  ptx::take_turn();
  constexpr int kWarps = kMaskThreads / 32;
  int changed = 0;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + ptx::warp_id(); row < rows; row += int64_t{gridDim.x} * kWarps) {
    for (int i = ptx::lane_id(); i < columns; i += 32) changed += before[row * before_stride + i] != after[row * after_stride + i] ? 1 : 0;
  }
  changed = block_reduce<kWarps>(changed, reinterpret_cast<int*>(shared_memory()), Sum{});
  if (threadIdx.x == 0) counts[blockIdx.x] = static_cast<float>(changed);
}

LaunchShape mask_shape(int64_t threads) {
  return {static_cast<unsigned>((threads + kMaskThreads - 1) / kMaskThreads), 1, 1, kMaskThreads, 0, 1, kernels_take_turns()};
}

}  // namespace

void magnitude_mask(const DeviceMatrix& weight, int kept, int of, const DeviceMatrix& mask, const Stream& stream) {
  if (weight.is_empty()) return;
  MaskArguments a{};
  a.x = weight.use_on<float>(stream), a.mask = mask.use_on<int8_t>(stream), a.stride = weight.row_stride(), a.mask_stride = mask.row_stride();
  a.rows = weight.rows(), a.columns = static_cast<int>(weight.columns()), a.kept = kept, a.of = of;
  launch(magnitude_mask_kernel, mask_shape(a.rows * ((a.columns + of - 1) / of)), stream.handle(), a);
}

void apply_mask(const DeviceMatrix& x, const DeviceMatrix& mask, float pruned, const DeviceMatrix& y, const Stream& stream) {
  if (x.is_empty()) return;
  MaskArguments a{};
  a.x = x.use_on<float>(stream), a.y = y.use_on<float>(stream), a.mask = mask.use_on<int8_t>(stream);
  a.stride = x.row_stride(), a.mask_stride = mask.row_stride(), a.rows = x.rows(), a.columns = static_cast<int>(x.columns()), a.pruned = pruned;
  launch(apply_mask_kernel, mask_shape(a.rows * a.columns), stream.handle(), a);
}

void count_mask_changes(const DeviceMatrix& before, const DeviceMatrix& after, const DeviceMatrix& counts, const Stream& stream) {
  const LaunchShape shape{kMaskChangeCounts, 1, 1, kMaskThreads, kMaskThreads / 32 * sizeof(int), 1, kernels_take_turns()};
  launch(count_mask_changes_kernel, shape, stream.handle(), before.use_on<int8_t>(stream), before.row_stride(), after.use_on<int8_t>(stream),
         after.row_stride(), after.rows(), static_cast<int>(after.columns()), counts.use_on<float>(stream));
}

}  // namespace usmlite::cuda
