#include "cuda/scale_sequences.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.hpp"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

constexpr uint32_t kInfiniteBits = 0x7f800000u;

template <typename T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) scale_kernel(typename Element<T>::Type* x, int64_t stride, int columns,
                                                                   const int32_t* offsets, const float* factors, const float* upstream) {
  ptx::take_turn();
  const int sequence = static_cast<int>(blockIdx.y);
  const int64_t row = offsets[sequence] + row_of_warp();
  if (row >= offsets[sequence + 1]) return;
  const float factor = factors[sequence] * *upstream;
  for (int i = ptx::lane_id(); i < columns; i += 32) {
    auto* element = x + row * stride + i;
    Element<T>::store(element, factor * Element<T>::load(element));
  }
}

__global__ void __launch_bounds__(32) weighted_sum_kernel(const float* values, const float* weights, int count, bool zero_infinity, float* total) {
  ptx::take_turn();
  float sum = 0.0f;
  for (int i = ptx::lane_id(); i < count; i += 32) {
    sum += zero_infinity && ptx::bits_of(values[i]) == kInfiniteBits ? 0.0f : values[i] * weights[i];
  }
  sum = warp_reduce(sum, Sum{});
  if (ptx::lane_id() == 0) *total = sum;
}

}  // namespace

void scale_sequences(const DeviceMatrix& x, const PackedSequences& sequences, const DeviceMatrix& factors, const DeviceMatrix& upstream,
                     const Stream& stream) {
  if (sequences.longest == 0) return;
  const LaunchShape shape{
      blocks_of_warps(sequences.longest), static_cast<unsigned>(sequences.count), 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()};
  const auto columns = static_cast<int>(x.columns());
  if (x.type() == DeviceType::kFloat32) {
    launch(scale_kernel<Float32>, shape, stream.handle(), x.use_on<float>(stream), x.row_stride(), columns, sequences.offsets,
           factors.use_on<float>(stream), upstream.use_on<float>(stream));
  } else {
    launch(scale_kernel<BFloat16>, shape, stream.handle(), x.use_on<uint16_t>(stream), x.row_stride(), columns, sequences.offsets,
           factors.use_on<float>(stream), upstream.use_on<float>(stream));
  }
}

void weighted_sum(const DeviceMatrix& values, const DeviceMatrix& weights, bool zero_infinity, const DeviceMatrix& total,
                  const Stream& stream) {
  launch(weighted_sum_kernel, LaunchShape{1, 1, 1, 32, 0, 1, kernels_take_turns()}, stream.handle(), values.use_on<float>(stream),
         weights.use_on<float>(stream), static_cast<int>(values.columns()), zero_infinity, total.use_on<float>(stream));
}

}  // namespace usmlite::cuda
