// Two launches each: what blocks find of parts of a sequence, then what that makes of its values. Statistics are float64, as on the CPU.
#include "cuda/feature_scaling.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/scratch_matrix.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kScalingWarps = 8, kScalingThreads = 32 * kScalingWarps;
constexpr int kMostParts = 64, kStepsPerPart = 8;  // a part is at least so many steps of a block

/// Frames of part blockIdx.y of sequence blockIdx.z. They depend on the length of the sequence alone: its bits are the same in any batch.
struct Part {
  int begin, frames;  // of the sequence
  int per_part, first, last;
};
__device__ __forceinline__ Part part_of_block(const int32_t* offsets, int frames_per_step) {
  const int begin = offsets[blockIdx.z], frames = offsets[blockIdx.z + 1] - begin;
  const int per_part = max(kStepsPerPart * frames_per_step, (frames + kMostParts - 1) / kMostParts);
  const int first = static_cast<int>(blockIdx.y) * per_part;
  return {begin, frames, per_part, first, min(frames, first + per_part)};
}

struct NormalisationArguments {
  const float* x;
  int64_t x_stride;
  int columns, columns_per_block;  // the latter a power of two, up to 32
  const int32_t* offsets;
  double* partial;  // (sequences, parts, 2, columns): sums of differences to the first frame, and of their squares
  Normalisation normalisation;
  float* y;
  int64_t y_stride;
  const int32_t* y_offsets;
  int per_frame;
};

struct ColumnSums {
  double first, second;
};

/// Sums over the threads of a block that have the same column; all of them get it. kScalingThreads twice in shared memory.
__device__ __forceinline__ ColumnSums sums_of_column(ColumnSums sums, int columns_per_block) {
  auto* firsts = reinterpret_cast<double*>(shared_memory());
  double* seconds = firsts + kScalingThreads;
  const int thread = static_cast<int>(threadIdx.x);
  firsts[thread] = sums.first;
  seconds[thread] = sums.second;
  ptx::block_sync();
  for (int half = kScalingThreads / 2; half >= columns_per_block; half /= 2) {
    if (thread < half) {
      firsts[thread] += firsts[thread + half];
      seconds[thread] += seconds[thread + half];
    }
    ptx::block_sync();
  }
  const int column = thread % columns_per_block;
  return {firsts[column], seconds[column]};
}

__global__ void __launch_bounds__(kScalingThreads) column_sums_kernel(const NormalisationArguments a) {
  ptx::take_turn();
  const int group = static_cast<int>(threadIdx.x) / a.columns_per_block, groups = kScalingThreads / a.columns_per_block;
  const int column = static_cast<int>(blockIdx.x) * a.columns_per_block + static_cast<int>(threadIdx.x) % a.columns_per_block;
  const Part part = part_of_block(a.offsets, groups);
  if (part.first >= part.last) return;
  const float* x = a.x + part.begin * a.x_stride + column;
  ColumnSums sums{0.0, 0.0};
  if (column < a.columns) {
    const double origin = static_cast<double>(*x);
    for (int frame = part.first + group; frame < part.last; frame += groups) {
      const double difference = static_cast<double>(x[frame * a.x_stride]) - origin;
      sums.first += difference;
      sums.second += difference * difference;
    }
  }
  sums = sums_of_column(sums, a.columns_per_block);
  if (group > 0 || column >= a.columns) return;
  double* row = a.partial + (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * 2 * a.columns + column;
  row[0] = sums.first;
  row[a.columns] = sums.second;
}

__global__ void __launch_bounds__(kScalingThreads) normalise_kernel(const NormalisationArguments a) {
  ptx::take_turn();
  const int group = static_cast<int>(threadIdx.x) / a.columns_per_block, groups = kScalingThreads / a.columns_per_block;
  const int column = static_cast<int>(blockIdx.x) * a.columns_per_block + static_cast<int>(threadIdx.x) % a.columns_per_block;
  const Part part = part_of_block(a.offsets, groups);
  if (part.first >= part.last) return;
  ColumnSums sums{0.0, 0.0};
  if (column < a.columns) {
    const int parts = (part.frames + part.per_part - 1) / part.per_part;
    for (int i = group; i < parts; i += groups) {
      const double* row = a.partial + (static_cast<int64_t>(blockIdx.z) * gridDim.y + i) * 2 * a.columns + column;
      sums.first += row[0];
      sums.second += row[a.columns];
    }
  }
  sums = sums_of_column(sums, a.columns_per_block);
  if (column >= a.columns) return;
  const float* x = a.x + part.begin * a.x_stride + column;
  const double count = part.frames, shift = sums.first / count;
  const double squares = fmax(sums.second - sums.first * shift, 0.0), divisor = a.normalisation.of_sample ? fmax(count - 1.0, 1.0) : count;
  const double mean = static_cast<double>(*x) + shift;
  const double deviation = sqrt(squares / divisor + a.normalisation.added_variance) + a.normalisation.added_deviation;
  const int y_begin = a.y_offsets[blockIdx.z], y_frames = a.y_offsets[blockIdx.z + 1] - y_begin;
  for (int frame = part.first + group; frame < part.last; frame += groups) {
    const int row = frame / a.per_frame, place = frame % a.per_frame;
    if (row >= y_frames) return;
    a.y[(y_begin + row) * a.y_stride + place * a.columns + column] =
        static_cast<float>((static_cast<double>(x[frame * a.x_stride]) - mean) / deviation);
  }
}

/// The larger one, or what is no number.
struct LargerOrNaN {
  __device__ __forceinline__ float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};

/// Calls `with` with the places of a part's values, those of a thread.
template <typename With> __device__ __forceinline__ void for_each_value(const Part& part, int64_t stride, int bins, With&& with) {
  for (int i = static_cast<int>(threadIdx.x); i < (part.last - part.first) * bins; i += kScalingThreads) {
    with((part.begin + part.first + i / bins) * stride + i % bins);
  }
}

/// partial (sequences, parts)
__global__ void __launch_bounds__(kScalingThreads)
    largest_kernel(const float* features, int64_t stride, int bins, const int32_t* offsets, float* partial) {
  ptx::take_turn();
  const Part part = part_of_block(offsets, 1);
  if (part.first >= part.last) return;
  float largest = features[(part.begin + part.first) * stride];
  for_each_value(part, stride, bins, [&](int64_t place) { largest = LargerOrNaN{}(largest, features[place]); });
  largest = block_reduce<kScalingWarps>(largest, reinterpret_cast<float*>(shared_memory()), LargerOrNaN{});
  if (threadIdx.x == 0) partial[static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y] = largest;
}

/// A natural logarithm to base ten, rounded to float32 as on the CPU.
__device__ __forceinline__ double to_base_ten(float natural) {
  return static_cast<double>(static_cast<float>(static_cast<double>(natural) / 2.302585092994046));
}

__global__ void __launch_bounds__(kScalingThreads) limit_range_kernel(float* features, int64_t stride, int bins, const int32_t* offsets,
                                                                      const float* partial, double range) {
  ptx::take_turn();
  const Part part = part_of_block(offsets, 1);
  if (part.first >= part.last) return;
  const int parts = (part.frames + part.per_part - 1) / part.per_part;
  const float* of_parts = partial + static_cast<int64_t>(blockIdx.z) * gridDim.y;
  const float mine = of_parts[min(static_cast<int>(threadIdx.x), parts - 1)];
  const float largest = block_reduce<kScalingWarps>(mine, reinterpret_cast<float*>(shared_memory()), LargerOrNaN{});
  const double least = to_base_ten(largest) - range;
  for_each_value(part, stride, bins, [&](int64_t place) {
    const double value = to_base_ten(features[place]);
    features[place] = static_cast<float>(((value > least ? value : least) + 4.0) / 4.0);
  });
}
static_assert(kMostParts <= kScalingThreads);

/// Grid of the parts of all sequences; those of shorter ones may be fewer.
LaunchShape parts_shape(unsigned blocks_of_columns, const PackedSequences& sequences, int frames_per_step, size_t shared_bytes) {
  const int least = kStepsPerPart * frames_per_step, parts = (sequences.longest + least - 1) / least;
  return {blocks_of_columns, static_cast<unsigned>(parts < kMostParts ? parts : kMostParts), static_cast<unsigned>(sequences.count), kScalingThreads,
          shared_bytes, 1, kernels_take_turns()};
}

}  // namespace

void normalise_columns(const DeviceMatrix& x, const PackedSequences& sequences, const Normalisation& normalisation, const DeviceMatrix& y,
                       const PackedSequences& stacked, int per_frame, const Stream& stream) {
  if (sequences.longest == 0) return;
  const bool one_column = x.is_vector();
  const int columns = one_column ? 1 : static_cast<int>(x.columns());
  int columns_per_block = 32;
  while (columns_per_block / 2 >= columns) columns_per_block /= 2;
  const LaunchShape shape = parts_shape(static_cast<unsigned>((columns + columns_per_block - 1) / columns_per_block), sequences,
                                        kScalingThreads / columns_per_block, 2 * kScalingThreads * sizeof(double));
  const ScratchMatrix partial = ScratchMatrix::of_doubles(int64_t{shape.grid_z} * shape.grid_y * 2 * columns, stream);
  const NormalisationArguments arguments{x.use_on<float>(stream),
                                         one_column ? 1 : x.row_stride(),
                                         columns,
                                         columns_per_block,
                                         sequences.offsets,
                                         partial.use_on<double>(stream),
                                         normalisation,
                                         y.use_on<float>(stream),
                                         one_column ? 1 : y.row_stride(),
                                         stacked.offsets,
                                         per_frame};
  launch(column_sums_kernel, shape, stream.handle(), arguments);
  launch(normalise_kernel, shape, stream.handle(), arguments);
}

void limit_range(const DeviceMatrix& features, const PackedSequences& sequences, double range, const Stream& stream) {
  if (sequences.longest == 0) return;
  const LaunchShape shape = parts_shape(1, sequences, 1, kScalingWarps * sizeof(float));
  const ScratchMatrix partial(DeviceType::kFloat32, 1, int64_t{shape.grid_z} * shape.grid_y, stream);
  const auto bins = static_cast<int>(features.columns());
  auto* values = features.use_on<float>(stream);
  launch(largest_kernel, shape, stream.handle(), values, features.row_stride(), bins, sequences.offsets, partial.use_on<float>(stream));
  launch(limit_range_kernel, shape, stream.handle(), values, features.row_stride(), bins, sequences.offsets, partial.use_on<float>(stream), range);
}

}  // namespace usmlite::cuda
