#include "cuda/instance_norm.hpp"

#include "cuda/channel_sums.cuh"
#include "cuda/launch.hpp"
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {
namespace {

using namespace channel_sums;

// Of a sequence, whatever the others are, so that its bits are the same in any batch.
constexpr int64_t kFramesPerPart = 256;
__device__ __forceinline__ int64_t parts_of_sequence(int64_t frames) { return (frames + kFramesPerPart - 1) / kFramesPerPart; }

// Sums of parts: of so many channels, each by kThreads / kSummedChannels threads.
constexpr int kSummedChannels = 32, kSummands = kThreads / kSummedChannels;

struct Frames {
  const uint16_t* x;
  int64_t stride;
  int channels;
  const int32_t* offsets;  // of the sequences
};

// The sums of part blockIdx.y of sequence blockIdx.z, of differences to the first frame, which is nearer to the mean than zero is,
// and of their squares: row (sequence, part) of `partial`, (2, channels rounded up to kChannels).
template <typename T> __global__ void __launch_bounds__(kThreads) sums_kernel(const Frames frames, float* partial, int64_t partial_stride) {
  ptx::take_turn();
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), channel = static_cast<int>(blockIdx.x) * kChannels + lane * kVector;
  const int64_t begin = frames.offsets[blockIdx.z], end = frames.offsets[blockIdx.z + 1];
  const int64_t first = begin + blockIdx.y * kFramesPerPart, behind = first + kFramesPerPart < end ? first + kFramesPerPart : end;
  if (first >= end) return;
  LaneSums sums;
  if (channel < frames.channels) {
    float origin[kVector];
    load_values<T>(frames.x + begin * frames.stride + channel, origin);
    for (int64_t frame = first + warp; frame < behind; frame += kWarps) {
      float x[kVector];
      load_values<T>(frames.x + frame * frames.stride + channel, x);
      sums.add_deviation(x, origin);
    }
  }
  float* row = partial + (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * partial_stride;
  sums.store(row, reinterpret_cast<float*>(shared_memory()), lane, warp);
}

struct StatisticsArguments {
  Frames frames;
  const float* partial;
  int64_t partial_stride, width;  // of its rows, and of each half of them
  int parts;                      // rows for each sequence
  const float* weight;
  float epsilon;
  float* statistics;  // rows of means and of factors for each sequence
  int64_t statistics_stride;
};

template <typename T> __global__ void __launch_bounds__(kThreads) statistics_kernel(const StatisticsArguments a) {
  ptx::take_turn();
  auto* shared = reinterpret_cast<float*>(shared_memory());  // (2, kSummands, kSummedChannels)
  const int summand = static_cast<int>(threadIdx.x) / kSummedChannels, lane = static_cast<int>(threadIdx.x) % kSummedChannels;
  const int channel = static_cast<int>(blockIdx.x) * kSummedChannels + lane;
  const int64_t begin = a.frames.offsets[blockIdx.y], end = a.frames.offsets[blockIdx.y + 1];
  float first = 0.0f, second = 0.0f;
  const auto parts = static_cast<int>(parts_of_sequence(end - begin));
  for (int part = summand; part < parts; part += kSummands) {
    const float* row = a.partial + (static_cast<int64_t>(blockIdx.y) * a.parts + part) * a.partial_stride + channel;
    first += row[0];
    second += row[a.width];
  }
  shared[threadIdx.x] = first;
  shared[kThreads + threadIdx.x] = second;
  ptx::block_sync();
  if (summand > 0 || channel >= a.frames.channels || begin >= end) return;
#pragma unroll
  for (int i = 1; i < kSummands; ++i) {
    first += shared[i * kSummedChannels + lane];
    second += shared[kThreads + i * kSummedChannels + lane];
  }
  const float count = static_cast<float>(end - begin), shift = first / count;
  const float variance = fmaxf(second / count - shift * shift, 0.0f);
  float* means = a.statistics + 2 * static_cast<int64_t>(blockIdx.y) * a.statistics_stride;
  means[channel] = ptx::to_float<T>(a.frames.x[begin * a.frames.stride + channel]) + shift;
  means[a.statistics_stride + channel] = a.weight[channel] * ptx::reciprocal_square_root(variance + a.epsilon);
}

// A thread takes 16 bytes of a frame of sequence blockIdx.y.
template <typename T>
__global__ void __launch_bounds__(kThreads) apply_kernel(const Frames frames, const float* statistics, int64_t statistics_stride,
                                                         const float* bias, uint16_t* y) {
  ptx::take_turn();
  const uint32_t vector = blockIdx.x * kThreads + threadIdx.x, per_frame = static_cast<uint32_t>(frames.stride / kVector);
  const int64_t frame = int64_t{frames.offsets[blockIdx.y]} + vector / per_frame;
  if (frame >= frames.offsets[blockIdx.y + 1]) return;
  const int channel = static_cast<int>(vector % per_frame) * kVector;
  const float* means = statistics + 2 * static_cast<int64_t>(blockIdx.y) * statistics_stride;
  float x[kVector], mean[kVector], factor[kVector], shift[kVector];
  load_values<T>(frames.x + frame * frames.stride + channel, x);
  load_parameters(means, channel, frames.channels, 0.0f, mean);
  load_parameters(means + statistics_stride, channel, frames.channels, 0.0f, factor);
  load_parameters(bias, channel, frames.channels, 0.0f, shift);
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] = (x[i] - mean[i]) * factor[i] + shift[i];
  store_values<T>(y + frame * frames.stride + channel, x);  // zeros behind the last channel
}

template <typename T>
void normalize(const Frames& frames, const PackedSequences& sequences, const DeviceMatrix& weight, const DeviceMatrix& bias, float epsilon,
               uint16_t* y, const Stream& stream) {
  const int64_t blocks = (frames.channels + kChannels - 1) / kChannels, width = blocks * kChannels;
  const auto count = static_cast<unsigned>(sequences.count);
  const int64_t parts = (sequences.longest + kFramesPerPart - 1) / kFramesPerPart;
  const ScratchMatrix partial(DeviceType::kFloat32, count * parts, 2 * width, stream);
  const ScratchMatrix statistics(DeviceType::kFloat32, 2 * int64_t{count}, frames.channels, stream);
  launch(sums_kernel<T>,
         LaunchShape{static_cast<unsigned>(blocks), static_cast<unsigned>(parts), count, kThreads, kSharedBytes, 1,
                     kernels_take_turns()},
         stream.handle(), frames, partial.use_on<float>(stream), partial.row_stride());
  const StatisticsArguments arguments{frames, partial.use_on<float>(stream), partial.row_stride(), width, static_cast<int>(parts),
                                      weight.use_on<float>(stream), epsilon, statistics.use_on<float>(stream), statistics.row_stride()};
  launch(statistics_kernel<T>,
         LaunchShape{static_cast<unsigned>((frames.channels + kSummedChannels - 1) / kSummedChannels), count, 1, kThreads,
                     2 * kThreads * sizeof(float), 1, kernels_take_turns()},
         stream.handle(), arguments);
  const int64_t vectors = sequences.longest * (frames.stride / kVector);
  launch(apply_kernel<T>,
         LaunchShape{static_cast<unsigned>((vectors + kThreads - 1) / kThreads), count, 1, kThreads, 0, 1, kernels_take_turns()},
         stream.handle(), frames, statistics.use_on<float>(stream), statistics.row_stride(), bias.use_on<float>(stream), y);
}

}  // namespace

void instance_norm(const DeviceMatrix& x, const PackedSequences& sequences, const DeviceMatrix& weight, const DeviceMatrix& bias,
                   float epsilon, const DeviceMatrix& y, const Stream& stream) {
  if (x.is_empty()) return;
  const Frames frames{x.use_on<uint16_t>(stream), x.row_stride(), static_cast<int>(x.columns()), sequences.offsets};
  const auto of_type = x.type() == DeviceType::kBFloat16 ? normalize<BFloat16> : normalize<Float16>;
  of_type(frames, sequences, weight, bias, epsilon, y.use_on<uint16_t>(stream), stream);
}

}  // namespace usmlite::cuda
