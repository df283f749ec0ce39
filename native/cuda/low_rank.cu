#include "cuda/low_rank.hpp"

#include <algorithm>

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/matmul_epilogue.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kLowRankThreads = 256, kLowRankWarps = kLowRankThreads / 32;
constexpr int kLowRankRows = 16;            // of a block
constexpr int kRowsOfWarp = kLowRankRows / kLowRankWarps;
constexpr int kRanks = 4;            // that a warp sums at once
constexpr int kMostSegments = 64;    // of a launch, which has them among its arguments

struct Segment {
  const float *down, *up;
  int down_stride, up_stride;  // values from one row to the next
  int begin, end, rank;
  unsigned first_block;
};

struct LowRankArguments {
  const uint16_t* x;
  uint16_t* y;
  int64_t x_stride, y_stride;
  int in, out;
  float scale;
  Activation activation;
  int segments;
  Segment segment[kMostSegments];
};

// What lies between rows is zero, so that the last pair of a row may reach there.

/// scale * x downᵀ of a warp's rows, into `hidden` (kLowRankRows, rank).
template <typename T>
__device__ __forceinline__ void multiply_down(const LowRankArguments& a, const Segment& of, int64_t first_row, int rows, float* hidden) {
  const int warp = ptx::warp_id(), lane = ptx::lane_id();
  const uint16_t* x[kRowsOfWarp];
#pragma unroll
  for (int r = 0; r < kRowsOfWarp; ++r) x[r] = a.x + (first_row + min(warp * kRowsOfWarp + r, rows - 1)) * a.x_stride;
  for (int first = 0; first < of.rank; first += kRanks) {
    const float* down[kRanks];
#pragma unroll
    for (int k = 0; k < kRanks; ++k) down[k] = of.down + static_cast<int64_t>(min(first + k, of.rank - 1)) * of.down_stride;
    float sums[kRowsOfWarp][kRanks] = {};
    for (int column = 2 * lane; column < a.in; column += 64) {
      float2 values[kRowsOfWarp];
#pragma unroll
      for (int r = 0; r < kRowsOfWarp; ++r) values[r] = ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(x[r] + column));
#pragma unroll
      for (int k = 0; k < kRanks; ++k) {
        const float2 factor = *reinterpret_cast<const float2*>(down[k] + column);
#pragma unroll
        for (int r = 0; r < kRowsOfWarp; ++r) sums[r][k] += values[r].x * factor.x + values[r].y * factor.y;
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsOfWarp; ++r) {
#pragma unroll
      for (int k = 0; k < kRanks; ++k) {
        const float sum = warp_reduce(sums[r][k], Sum());
        if (lane == 0 && first + k < of.rank) hidden[(warp * kRowsOfWarp + r) * of.rank + first + k] = a.scale * sum;
      }
    }
  }
}

/// y = activation(y + hidden up) for the rows of a block; a thread takes two columns at a time.
template <typename T>
__device__ __forceinline__ void multiply_up(const LowRankArguments& a, const Segment& of, int64_t first_row, int rows, const float* hidden) {
  uint16_t* const y = a.y + first_row * a.y_stride;
  for (int column = 2 * static_cast<int>(threadIdx.x); column < a.out; column += 2 * kLowRankThreads) {
    float2 sums[kLowRankRows];
#pragma unroll
    for (int r = 0; r < kLowRankRows; ++r) {
      sums[r] = r < rows ? ptx::floats2<T>(*reinterpret_cast<const uint32_t*>(y + r * a.y_stride + column)) : float2{0.0f, 0.0f};
    }
    for (int k = 0; k < of.rank; ++k) {
      const float2 factor = *reinterpret_cast<const float2*>(of.up + static_cast<int64_t>(k) * of.up_stride + column);
#pragma unroll
      for (int r = 0; r < kLowRankRows; ++r) {
        const float value = r < rows ? hidden[r * of.rank + k] : 0.0f;
        sums[r].x += value * factor.x;
        sums[r].y += value * factor.y;
      }
    }
#pragma unroll
    for (int r = 0; r < kLowRankRows; ++r) {
      if (r >= rows) continue;
      const float first = activate(a.activation, sums[r].x), second = activate(a.activation, sums[r].y);
      *reinterpret_cast<uint32_t*>(y + r * a.y_stride + column) = ptx::round2<T>(first, second);
    }
  }
}

// A block takes kLowRankRows rows of one segment.
template <typename T> __global__ void __launch_bounds__(kLowRankThreads) low_rank_kernel(const __grid_constant__ LowRankArguments a) {
  ptx::take_turn();
  auto* const hidden = reinterpret_cast<float*>(shared_memory());  // (kLowRankRows, rank)
  int index = 0;
  while (index + 1 < a.segments && blockIdx.x >= a.segment[index + 1].first_block) ++index;
  const Segment& of = a.segment[index];
  const int64_t first_row = of.begin + static_cast<int64_t>(blockIdx.x - of.first_block) * kLowRankRows;
  const int rows = min(kLowRankRows, of.end - static_cast<int>(first_row));
  multiply_down<T>(a, of, first_row, rows, hidden);
  ptx::block_sync();
  multiply_up<T>(a, of, first_row, rows, hidden);
}

}  // namespace

void low_rank_add(std::span<const LowRankSegment> segments, const DeviceMatrix& x, const DeviceMatrix& y, float scale, Activation activation,
                  const Stream& stream) {
  LowRankArguments arguments{x.use_on<uint16_t>(stream), y.use_on<uint16_t>(stream), x.row_stride(), y.row_stride(),
                             static_cast<int>(x.columns()), static_cast<int>(y.columns()), scale, activation, 0, {}};
  unsigned blocks = 0;
  int64_t largest_rank = 1;
  const auto run = [&] {
    if (blocks == 0) return;
    const auto shared = static_cast<size_t>(kLowRankRows * largest_rank) * sizeof(float);
    launch(x.type() == DeviceType::kBFloat16 ? low_rank_kernel<BFloat16> : low_rank_kernel<Float16>,
           LaunchShape{blocks, 1, 1, kLowRankThreads, shared, 1, kernels_take_turns()}, stream.handle(), arguments);
    blocks = 0, largest_rank = 1, arguments.segments = 0;
  };
  for (const LowRankSegment& segment : segments) {
    if (segment.begin == segment.end || (!segment.down && activation == Activation::kNone)) continue;
    Segment& to = arguments.segment[arguments.segments++];
    to = {nullptr, nullptr, 0, 0, static_cast<int>(segment.begin), static_cast<int>(segment.end), 0, blocks};
    if (segment.down) {
      to.down = segment.down->use_on<float>(stream), to.up = segment.up->use_on<float>(stream);
      to.down_stride = static_cast<int>(segment.down->row_stride()), to.up_stride = static_cast<int>(segment.up->row_stride());
      to.rank = static_cast<int>(segment.down->rows());
      largest_rank = std::max<int64_t>(largest_rank, to.rank);
    }
    blocks += static_cast<unsigned>((segment.end - segment.begin + kLowRankRows - 1) / kLowRankRows);
    if (arguments.segments == kMostSegments) run();
  }
  run();
}

}  // namespace usmlite::cuda
