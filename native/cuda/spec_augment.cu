#include "cuda/spec_augment_kernels.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.hpp"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kBinThreads = 256, kBinWarps = kBinThreads / 32;

/// A block takes an utterance.
template <typename T> __global__ void __launch_bounds__(kBinThreads)
    mean_kernel(const typename Element<T>::Type* x, int64_t stride, int bins, const int32_t* offsets, float* means) {
  ptx::take_turn();
  const int64_t first = offsets[blockIdx.x], count = (offsets[blockIdx.x + 1] - first) * bins;
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kBinThreads) {
    sum += static_cast<double>(Element<T>::load(x + (first + i / bins) * stride + i % bins));
  }
  sum = block_reduce<kBinWarps>(sum, reinterpret_cast<double*>(shared_memory()), Sum{});
  if (threadIdx.x == 0) means[blockIdx.x] = count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
}

template <typename T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) mask_kernel(typename Element<T>::Type* x, int64_t stride, int bins, const int32_t* offsets,
                                                                  const float* means, const int32_t* mask_offsets, const int2* intervals) {
  ptx::take_turn();
  const int sequence = static_cast<int>(blockIdx.y), frame = static_cast<int>(row_of_warp());
  if (frame >= offsets[sequence + 1] - offsets[sequence]) return;
  const int lane = ptx::lane_id();
  auto* row = x + (offsets[sequence] + frame) * stride;
  const float mean = means[sequence];
  const int over_bins = mask_offsets[2 * sequence], over_frames = mask_offsets[2 * sequence + 1], end = mask_offsets[2 * sequence + 2];
  for (int i = over_bins; i < over_frames; ++i) {
    for (int bin = intervals[i].x + lane; bin < intervals[i].y; bin += 32) Element<T>::store(row + bin, mean);
    ptx::warp_sync();  // the next may cover the same bins
  }
  for (int i = over_frames; i < end; ++i) {
    if (frame < intervals[i].x || frame >= intervals[i].y) continue;
    for (int bin = lane; bin < bins; bin += 32) Element<T>::store(row + bin, mean);
    break;
  }
}

template <typename T> void mask(const DeviceMatrix& features, const PackedSequences& sequences, const MaskArguments& masks, const Stream& stream) {
  const auto count = static_cast<unsigned>(sequences.count);
  const auto bins = static_cast<int>(features.columns());
  auto* x = features.use_on<typename Element<T>::Type>(stream);
  launch(mean_kernel<T>, LaunchShape{count, 1, 1, kBinThreads, kBinWarps * sizeof(double), 1, kernels_take_turns()}, stream.handle(), x,
         features.row_stride(), bins, sequences.offsets, masks.means);
  launch(mask_kernel<T>, LaunchShape{blocks_of_warps(sequences.longest), count, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()}, stream.handle(),
         x, features.row_stride(), bins, sequences.offsets, masks.means, masks.offsets, reinterpret_cast<const int2*>(masks.intervals));
}

}  // namespace

void mask_with_means(const DeviceMatrix& features, const PackedSequences& sequences, const MaskArguments& masks, const Stream& stream) {
  (features.type() == DeviceType::kFloat32 ? mask<Float32> : mask<BFloat16>)(features, sequences, masks, stream);
}

}  // namespace usmlite::cuda
