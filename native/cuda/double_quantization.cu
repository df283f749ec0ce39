#include "cuda/double_quantization.hpp"

#include "codec/double_quantization.hpp"
#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kMeanWarps = 32, kMeanThreads = 32 * kMeanWarps;  // one block takes all scales
constexpr int kCodeWarps = codec::kScaleBlock / 32;             // a thread block takes those that share a step
constexpr int kLargestCode = 127;
constexpr float kLargestScale = 3.40282347e38f;

struct ScaleArguments {
  float *scale, *mean, *quantized;
  int64_t count, columns, stride, quantized_stride;

  __device__ __forceinline__ float& at(int64_t i) const { return scale[i / columns * stride + i % columns]; }
};

__device__ __forceinline__ bool is_scale(float value) { return value > 0.0f && value <= kLargestScale; }

struct ScaleMean {
  float mean;  // 0 where there are none
  bool of_all;
};

/// Of the positive, finite ones. All threads get it.
__device__ __forceinline__ ScaleMean mean_of_scales(const ScaleArguments& a) {
  double sums[2] = {};
  for (int64_t i = threadIdx.x; i < a.count; i += kMeanThreads) {
    const float scale = a.at(i);
    if (is_scale(scale)) sums[0] += static_cast<double>(scale), sums[1] += 1.0;
  }
  block_sums<kMeanWarps>(sums, reinterpret_cast<double*>(shared_memory()));
  return {sums[1] > 0.0 ? static_cast<float>(sums[0] / sums[1]) : 0.0f, sums[1] == static_cast<double>(a.count)};
}

__global__ void __launch_bounds__(kMeanThreads) replace_kernel(const ScaleArguments a) {
  ptx::take_turn();
  const float mean = mean_of_scales(a).mean;
  for (int64_t i = threadIdx.x; i < a.count; i += kMeanThreads) {
    float& scale = a.at(i);
    if (scale < 0.0f) scale = mean > 0.0f ? mean : -scale;
  }
}

__global__ void __launch_bounds__(kMeanThreads) mean_kernel(const ScaleArguments a) {
  ptx::take_turn();
  const ScaleMean found = mean_of_scales(a);
  if (threadIdx.x == 0) *a.mean = found.of_all ? found.mean : ptx::float_of(0x7fc00000u);  // NaN: nobody waits for an error
}

__global__ void __launch_bounds__(codec::kScaleBlock) quantize_kernel(const ScaleArguments a) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * codec::kScaleBlock + threadIdx.x;
  const float mean = *a.mean, distance = i < a.count ? a.at(i) - mean : 0.0f;
  const float step =
      block_reduce<kCodeWarps>(fabsf(distance), reinterpret_cast<float*>(shared_memory()), Larger{}) / static_cast<float>(kLargestCode);
  if (i >= a.count) return;
  int code = step > 0.0f && mean > 0.0f ? max(min(ptx::round_to_int(distance / step), kLargestCode), -kLargestCode) : 0;
  // The code 0, which stands for the mean, is always possible.
  while (code != 0 && !is_scale(fmaf(step, static_cast<float>(code), mean))) code += code < 0 ? 1 : -1;
  a.quantized[i / a.columns * a.quantized_stride + i % a.columns] = fmaf(step, static_cast<float>(code), mean);
}

ScaleArguments arguments_of(const DeviceMatrix& scale, const Stream& stream) {
  ScaleArguments a{};
  a.scale = scale.use_on<float>(stream);
  a.count = scale.rows() * scale.columns(), a.columns = scale.columns(), a.stride = scale.row_stride();
  return a;
}

LaunchShape mean_shape() { return {1, 1, 1, kMeanThreads, kMeanWarps * 2 * sizeof(double), 1, kernels_take_turns()}; }

}  // namespace

void replace_unmeasured_scales(const DeviceMatrix& scale, const Stream& stream) {
  launch(replace_kernel, mean_shape(), stream.handle(), arguments_of(scale, stream));
}

void quantize_scales(const DeviceMatrix& scale, const DeviceMatrix& quantized, const Stream& stream) {
  const ScratchMatrix mean(DeviceType::kFloat32, 1, 1, stream);
  ScaleArguments a = arguments_of(scale, stream);
  if (a.count == 0) return;
  a.mean = mean.use_on<float>(stream), a.quantized = quantized.use_on<float>(stream), a.quantized_stride = quantized.row_stride();
  launch(mean_kernel, mean_shape(), stream.handle(), a);
  launch(quantize_kernel,
         LaunchShape{static_cast<unsigned>((a.count + codec::kScaleBlock - 1) / codec::kScaleBlock), 1, 1, codec::kScaleBlock,
                     kCodeWarps * sizeof(float), 1, kernels_take_turns()},
         stream.handle(), a);
}

}  // namespace usmlite::cuda
