#include "cuda/integer_training.hpp"

#include "codec/weight_spec.hpp"
#include "cuda/element.cuh"
#include "cuda/kernel_codes.hpp"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kFillThreads = 256, kFillWarps = kFillThreads / 32, kTileWords = tile_bytes(Codes::kInt8) / 4,
              kTilesPerBlock = kBlockChannels / kTileChannels;

struct FillArguments {
  const float *weight, *scale, *zero_point;  // the last null in formats without
  int64_t stride, scale_stride, zero_point_stride;
  int channels, inputs, slices;
  int group, groups;     // inputs that share a scale
  LevelCoding coding;
  float lowest, highest;
  // What is filled; those that are null are left out.
  uint32_t *tiles, *kept;
  float *channel_scales, *channel_sums, *whole_scales, *zero_points;
};

__device__ __forceinline__ float scale_of(const FillArguments& a, int channel, int group) { return a.scale[channel * a.scale_stride + group]; }
__device__ __forceinline__ float zero_point_of(const FillArguments& a, int channel, int group) {
  return a.zero_point ? a.zero_point[channel * a.zero_point_stride + group] : 0.0f;
}

__device__ __forceinline__ bool is_kept(const FillArguments& a, float weight) { return !a.kept || weight != 0.0f; }

/// Of a weight; that of a code of 0 for one that is not kept.
__device__ __forceinline__ int level_of(const FillArguments& a, float weight, float scale, float zero_point) {
  if (!is_kept(a, weight)) return a.coding.shift;
  const float level = fmaxf(fminf(weight / scale + zero_point, a.highest), a.lowest);
  return ptx::round_to_int((level - static_cast<float>(a.coding.shift)) / static_cast<float>(a.coding.step)) * a.coding.step + a.coding.shift;
}

// A block makes the four tiles of a slice of 64 channels, a thread four words of four adjacent inputs.
__global__ void __launch_bounds__(kFillThreads) fill_kernel(const FillArguments a) {
  ptx::take_turn();
  const int slice = static_cast<int>(blockIdx.x), block = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  const int64_t first_tile = (static_cast<int64_t>(block) * a.slices + slice) * kTilesPerBlock;
  uint32_t* const masks = reinterpret_cast<uint32_t*>(shared_memory());  // of a tile, by lane, step and r
#pragma unroll
  for (int tile = 0; tile < kTilesPerBlock; ++tile) {
    // fragment_order.hpp, 8-bit int8: plane `step`, lane 4 g + t, word r
    const int step = thread / 128, lane = thread % 128 / 4, r = thread % 4;
    const int channel = block * kBlockChannels + tile * kTileChannels + lane / 4 + 8 * (r % 2);
    const int input = slice * kStoredPerSlice + 32 * step + 4 * (lane % 4) + 16 * (r / 2);
    uint32_t word = 0, mask = 0;
    if (channel < a.channels && input < a.inputs) {
      const float scale = scale_of(a, channel, input / a.group), zero_point = zero_point_of(a, channel, input / a.group);
      const float4 w = *reinterpret_cast<const float4*>(a.weight + channel * a.stride + input);
      const float values[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int code = (level_of(a, values[i], scale, zero_point) - a.coding.shift) / a.coding.step;
        word |= (static_cast<uint32_t>(code) & 0xff) << (8 * i);
        mask |= (is_kept(a, values[i]) ? 1u : 0u) << (8 * i + 4 * step + r);
      }
    }
    a.tiles[(first_tile + tile) * kTileWords + thread] = word;
    if (!a.kept) continue;
    masks[lane * 8 + 4 * step + r] = mask;
    ptx::block_sync();
    if (thread < 32) {
      uint32_t all = 0;
      for (int i = 0; i < 8; ++i) all |= masks[thread * 8 + i];
      a.kept[(first_tile + tile) * 32 + thread] = all;
    }
    ptx::block_sync();
  }
  const int channel = block * kBlockChannels + thread;
  if (slice == 0 && thread < kBlockChannels && a.channel_scales) a.channel_scales[channel] = channel < a.channels ? scale_of(a, channel, 0) : 1.0f;
}

// A warp takes a channel: its scales, and what its weights add up to (ChannelSum).
__global__ void __launch_bounds__(kFillThreads) fill_channels_kernel(const FillArguments a) {
  ptx::take_turn();
  const int channel = static_cast<int>(blockIdx.x) * kFillWarps + ptx::warp_id(), lane = ptx::lane_id();
  const bool within = channel < a.channels;
  double sum = 0.0;
  for (int group = 0; group < a.groups; ++group) {
    const float scale = within ? scale_of(a, channel, group) : 1.0f, zero_point = within ? zero_point_of(a, channel, group) : 0.0f;
    const int64_t at = (static_cast<int64_t>(channel / kBlockChannels) * a.groups + group) * kBlockChannels + channel % kBlockChannels;
    if (lane == 0 && a.whole_scales) a.whole_scales[at] = scale;
    if (lane == 0 && a.zero_points) a.zero_points[at] = zero_point;
    if (!a.channel_sums) continue;
    int levels = 0, kept = 0;
    const int end = within ? min((group + 1) * a.group, a.inputs) : 0;
    for (int input = group * a.group + lane; input < end; input += 32) {
      const float weight = a.weight[channel * a.stride + input];
      if (!is_kept(a, weight)) continue;
      levels += level_of(a, weight, scale, zero_point);
      ++kept;
    }
    for (int mask = 16; mask > 0; mask /= 2) levels += ptx::shuffle_xor(levels, mask), kept += ptx::shuffle_xor(kept, mask);
    sum += static_cast<double>(scale) * (static_cast<double>(levels) - static_cast<double>(zero_point) * static_cast<double>(kept));
  }
  if (lane == 0 && a.channel_sums) a.channel_sums[channel] = static_cast<float>(sum);
}

__global__ void __launch_bounds__(kFillThreads) pad_bias_kernel(const float* bias, float* padded, int64_t channels, int64_t padded_channels) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kFillThreads + threadIdx.x;
  if (i < padded_channels) padded[i] = i < channels ? bias[i] : 0.0f;
}

struct WidenArguments {
  const int8_t* codes;
  const float *scales, *offsets;  // the latter null without
  uint16_t* y;
  int64_t codes_stride, y_stride, rows;
  int columns;
};

__global__ void __launch_bounds__(kFillThreads) widen_rows_kernel(const WidenArguments a) {
  ptx::take_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kFillThreads + threadIdx.x, row = i / a.columns;
  if (row >= a.rows) return;
  const int64_t column = i % a.columns;
  const float offset = a.offsets ? a.offsets[row] : 0.0f;
  a.y[row * a.y_stride + column] = ptx::from_float<BFloat16>(fmaf(static_cast<float>(a.codes[row * a.codes_stride + column]), a.scales[row], offset));
}

LaunchShape shape_for_elements(int64_t threads) {
  return {static_cast<unsigned>((threads + kFillThreads - 1) / kFillThreads), 1, 1, kFillThreads, 0, 1, kernels_take_turns()};
}

}  // namespace

void fill_integer_weight(const DeviceWeight& to, const DeviceMatrix& weight, const IntegerScales& scales, const Stream& stream) {
  static_assert(kTileWords == kFillThreads);
  const WeightView& view = to.view();
  const codec::WeightSpec spec = codec::parse_weight_spec(to.spec());
  FillArguments a{};
  a.weight = weight.use_on<float>(stream), a.scale = scales.scale.use_on<float>(stream);
  a.zero_point = scales.zero_point ? scales.zero_point->use_on<float>(stream) : nullptr;
  const auto stride_of = [](const DeviceMatrix& of) { return of.is_vector() ? 1 : of.row_stride(); };
  a.stride = weight.row_stride(), a.scale_stride = stride_of(scales.scale);
  a.zero_point_stride = scales.zero_point ? stride_of(*scales.zero_point) : 0;
  a.channels = view.channels, a.inputs = view.inputs, a.slices = view.slices;
  a.group = view.group_size ? view.group_size : view.inputs, a.groups = static_cast<int>(spec.scales_per_row(view.inputs));
  a.coding = level_coding(spec);
  a.lowest = static_cast<float>(spec.lowest_level()), a.highest = static_cast<float>(spec.highest_level());
  // The weight is one of training, whose memory is written where it was made.
  a.tiles = reinterpret_cast<uint32_t*>(const_cast<uint8_t*>(view.tiles)), a.kept = const_cast<uint32_t*>(view.kept);
  a.channel_scales = const_cast<float*>(view.channel_scales), a.channel_sums = const_cast<float*>(view.channel_sums);
  a.whole_scales = const_cast<float*>(view.whole_scales), a.zero_points = const_cast<float*>(view.zero_points);
  launch(fill_kernel,
         LaunchShape{static_cast<unsigned>(view.slices), static_cast<unsigned>(view.blocks), 1, kFillThreads, kFillThreads * sizeof(uint32_t), 1,
                     kernels_take_turns()},
         stream.handle(), a);
  if (!a.channel_sums && !a.whole_scales) return;
  launch(fill_channels_kernel, LaunchShape{static_cast<unsigned>(to.padded_channels() / kFillWarps), 1, 1, kFillThreads, 0, 1, kernels_take_turns()},
         stream.handle(), a);
}

void widen_rows(const QuantizedRows& rows, const DeviceMatrix& y, const Stream& stream) {
  const int64_t count = y.rows() * y.columns();
  if (count == 0) return;
  const WidenArguments arguments{rows.codes.use_on<int8_t>(stream), rows.scales.use_on<float>(stream), rows.offsets(stream), y.use_on<uint16_t>(stream),
                                 rows.codes.row_stride(), y.row_stride(), y.rows(), static_cast<int>(y.columns())};
  launch(widen_rows_kernel, shape_for_elements(count), stream.handle(), arguments);
}

void pad_bias(const DeviceMatrix& bias, const DeviceMatrix& padded, const Stream& stream) {
  launch(pad_bias_kernel, shape_for_elements(padded.columns()), stream.handle(), bias.use_on<float>(stream), padded.use_on<float>(stream),
         bias.columns(), padded.columns());
}

}  // namespace usmlite::cuda
