#include "cuda/transpose.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

struct TransposeArguments {
  const void* x;
  void* y;
  int64_t x_stride, y_stride;  // elements
  int rows, columns;           // of x
};

constexpr int kTransposeThreads = 256;
constexpr int kTile = 64;       // rows and columns of 16 bits that a block turns
constexpr int kWords = kTile / 2, kWordStride = kWords + 1;  // of a row in shared memory
constexpr int kFloatTile = 32;

// A word of shared memory holds two neighbouring columns of a row. Groups of 8 rows from the fifth on have their words in
// another order, so that threads which read columns of 8 groups meet 32 different banks.
__device__ __forceinline__ int place(int row, int word) { return row * kWordStride + (word ^ (row / 32 * 4)); }

__global__ void __launch_bounds__(kTransposeThreads) transpose_halves_kernel(const TransposeArguments a) {
  ptx::take_turn();
  auto* words = reinterpret_cast<uint32_t*>(shared_memory());
  const int first_row = static_cast<int>(blockIdx.y) * kTile, first_column = static_cast<int>(blockIdx.x) * kTile;
  const int thread = static_cast<int>(threadIdx.x);
  const auto* x = static_cast<const uint16_t*>(a.x);
#pragma unroll
  for (int step = 0; step < kTile * kTile / 8 / kTransposeThreads; ++step) {
    const int row = thread / 8 + step * (kTransposeThreads / 8), vector = thread % 8;
    uint4 bits{0, 0, 0, 0};
    // Rows are padded to whole vectors.
    if (first_row + row < a.rows && first_column + 8 * vector < a.columns) {
      bits = *reinterpret_cast<const uint4*>(x + (first_row + row) * a.x_stride + first_column + 8 * vector);
    }
    words[place(row, 4 * vector)] = bits.x;
    words[place(row, 4 * vector + 1)] = bits.y;
    words[place(row, 4 * vector + 2)] = bits.z;
    words[place(row, 4 * vector + 3)] = bits.w;
  }
  ptx::block_sync();
  // A thread writes 8 rows of two columns.
  const int group = thread % 8, word = thread / 8;
  uint32_t even[4], odd[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t first = words[place(8 * group + 2 * i, word)], second = words[place(8 * group + 2 * i + 1, word)];
    even[i] = ptx::byte_permute(first, second, 0x5410);
    odd[i] = ptx::byte_permute(first, second, 0x7632);
  }
  const int row = first_row + 8 * group, column = first_column + 2 * word;
  if (row >= a.rows) return;
  uint16_t* y = static_cast<uint16_t*>(a.y) + column * a.y_stride + row;
  if (column < a.columns) *reinterpret_cast<uint4*>(y) = uint4{even[0], even[1], even[2], even[3]};
  if (column + 1 < a.columns) *reinterpret_cast<uint4*>(y + a.y_stride) = uint4{odd[0], odd[1], odd[2], odd[3]};
}

__global__ void __launch_bounds__(kTransposeThreads) transpose_floats_kernel(const TransposeArguments a) {
  ptx::take_turn();
  auto* tile = reinterpret_cast<float*>(shared_memory());  // (kFloatTile, kFloatTile + 1)
  const int first_row = static_cast<int>(blockIdx.y) * kFloatTile, first_column = static_cast<int>(blockIdx.x) * kFloatTile;
  const int across = static_cast<int>(threadIdx.x) % kFloatTile, down = static_cast<int>(threadIdx.x) / kFloatTile;
  const auto* x = static_cast<const float*>(a.x);
  auto* y = static_cast<float*>(a.y);
#pragma unroll
  for (int i = down; i < kFloatTile; i += kTransposeThreads / kFloatTile) {
    if (first_row + i < a.rows && first_column + across < a.columns) {
      tile[i * (kFloatTile + 1) + across] = x[(first_row + i) * a.x_stride + first_column + across];
    }
  }
  ptx::block_sync();
#pragma unroll
  for (int i = down; i < kFloatTile; i += kTransposeThreads / kFloatTile) {
    if (first_column + i < a.columns && first_row + across < a.rows) {
      y[(first_column + i) * a.y_stride + first_row + across] = tile[across * (kFloatTile + 1) + i];
    }
  }
}

}  // namespace

void transpose(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream) {
  if (x.is_empty()) return;
  const bool wide = x.type() == DeviceType::kFloat32;
  const TransposeArguments arguments{x.use_on<void>(stream), y.use_on<void>(stream), x.row_stride(), y.row_stride(),
                                     static_cast<int>(x.rows()), static_cast<int>(x.columns())};
  const int tile = wide ? kFloatTile : kTile;
  const size_t shared = wide ? kFloatTile * (kFloatTile + 1) * sizeof(float) : kTile * kWordStride * sizeof(uint32_t);
  launch(wide ? transpose_floats_kernel : transpose_halves_kernel,
         LaunchShape{static_cast<unsigned>((arguments.columns + tile - 1) / tile), static_cast<unsigned>((arguments.rows + tile - 1) / tile), 1,
                     kTransposeThreads, shared, 1, kernels_take_turns()},
         stream.handle(), arguments);
}

}  // namespace usmlite::cuda
