#include "cuda/integer_training.hpp"

#include "cuda/element.cuh"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kThreads = 256, kTileWords = tile_bytes(Codes::kInt8) / 4, kTilesPerBlock = kBlockChannels / kTileChannels;
constexpr float kHighest = 127.0f;

struct FillArguments {
  const float *weight, *scale;
  uint32_t* tiles;
  float* channel_scales;
  int64_t stride, scale_stride;
  int channels, inputs, slices;
};

// A block makes the four tiles of a slice of 64 channels, a thread four words of four adjacent inputs.
__global__ void __launch_bounds__(kThreads) fill_kernel(const FillArguments a) {
  ptx::take_turn();
  const int slice = static_cast<int>(blockIdx.x), block = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  uint32_t* words = a.tiles + (static_cast<int64_t>(block) * a.slices + slice) * kTilesPerBlock * kTileWords;
#pragma unroll
  for (int tile = 0; tile < kTilesPerBlock; ++tile) {
    // fragment_order.hpp, 8-bit int8: plane `step`, lane 4 g + t, word r
    const int step = thread / 128, lane = thread % 128 / 4, r = thread % 4;
    const int channel = block * kBlockChannels + tile * kTileChannels + lane / 4 + 8 * (r % 2);
    const int input = slice * kStoredPerSlice + 32 * step + 4 * (lane % 4) + 16 * (r / 2);
    uint32_t word = 0;
    if (channel < a.channels && input < a.inputs) {
      const float scale = a.scale[channel * a.scale_stride];
      const float4 w = *reinterpret_cast<const float4*>(a.weight + channel * a.stride + input);
      const float values[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int code = ptx::round_to_int(fmaxf(fminf(values[i] / scale, kHighest), -kHighest));
        word |= (static_cast<uint32_t>(code) & 0xff) << (8 * i);
      }
    }
    words[tile * kTileWords + thread] = word;
  }
  const int channel = block * kBlockChannels + thread;
  if (slice == 0 && thread < kBlockChannels) a.channel_scales[channel] = channel < a.channels ? a.scale[channel * a.scale_stride] : 1.0f;
}

__global__ void __launch_bounds__(kThreads) pad_bias_kernel(const float* bias, float* padded, int64_t channels, int64_t padded_channels) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < padded_channels) padded[i] = i < channels ? bias[i] : 0.0f;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) widen_rows_kernel(const int8_t* codes, int64_t codes_stride, const float* scales, int64_t rows, int columns,
                                                              uint16_t* y, int64_t y_stride) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, row = i / columns;
  if (row >= rows) return;
  const int64_t column = i % columns;
  Element<T>::store(y + row * y_stride + column, static_cast<float>(codes[row * codes_stride + column]) * scales[row]);
}

LaunchShape shape_for(int64_t threads) { return {static_cast<unsigned>((threads + kThreads - 1) / kThreads), 1, 1, kThreads, 0, 1, kernels_take_turns()}; }

}  // namespace

void fill_integer_weight(const DeviceWeight& to, const DeviceTensor& weight, const DeviceTensor& scale, const std::shared_ptr<Stream>& stream) {
  static_assert(kTileWords == kThreads);
  const WeightView& view = to.view();
  // The weight is one of training, whose memory is written where it was made.
  const FillArguments arguments{weight.use_on<float>(stream), scale.use_on<float>(stream),
                                reinterpret_cast<uint32_t*>(const_cast<uint8_t*>(view.tiles)), const_cast<float*>(view.channel_scales),
                                weight.row_stride(), scale.shape().size() == 2 ? scale.row_stride() : 1, view.channels, view.inputs, view.slices};
  launch(fill_kernel, LaunchShape{static_cast<unsigned>(view.slices), static_cast<unsigned>(view.blocks), 1, kThreads, 0, 1, kernels_take_turns()},
         stream->handle(), arguments);
}

void widen_rows(const QuantizedRows& rows, const DeviceTensor& y, const std::shared_ptr<Stream>& stream) {
  const int64_t count = y.rows() * y.columns();
  if (count == 0) return;
  launch(y.type() == DeviceType::kBFloat16 ? widen_rows_kernel<BFloat16> : widen_rows_kernel<Float16>, shape_for(count), stream->handle(),
         rows.codes.use_on<int8_t>(stream), rows.codes.row_stride(), rows.scales.use_on<float>(stream), y.rows(), static_cast<int>(y.columns()),
         y.use_on<uint16_t>(stream), y.row_stride());
}

void pad_bias(const DeviceTensor& bias, const DeviceTensor& padded, const std::shared_ptr<Stream>& stream) {
  launch(pad_bias_kernel, shape_for(padded.columns()), stream->handle(), bias.use_on<float>(stream), padded.use_on<float>(stream), bias.columns(),
         padded.columns());
}

}  // namespace usmlite::cuda
