#include "cuda/cast.hpp"

#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kCastThreads = 256;
constexpr unsigned kMostBlocks = 4096;

/// Of a matrix (rows, columns) whose rows lie `from_stride` and `to_stride` elements apart.
struct Extents {
  int64_t rows, columns, from_stride, to_stride;
};

template <typename T> __global__ void round_kernel(const float* from, uint16_t* to, Extents extents) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kCastThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCastThreads + threadIdx.x; i < extents.rows * extents.columns; i += step) {
    const int64_t row = i / extents.columns, column = i % extents.columns;
    to[row * extents.to_stride + column] = ptx::from_float<T>(from[row * extents.from_stride + column]);
  }
}

template <typename T> __global__ void widen_kernel(const uint16_t* from, float* to, Extents extents) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kCastThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCastThreads + threadIdx.x; i < extents.rows * extents.columns; i += step) {
    const int64_t row = i / extents.columns, column = i % extents.columns;
    to[row * extents.to_stride + column] = ptx::to_float<T>(from[row * extents.from_stride + column]);
  }
}

}  // namespace

void cast(const DeviceMatrix& from, const DeviceMatrix& to, const Stream& stream) {
  const Extents extents{from.rows(), from.columns(), from.row_stride(), to.row_stride()};
  const int64_t blocks = (extents.rows * extents.columns + kCastThreads - 1) / kCastThreads;
  if (blocks == 0) return;
  const LaunchShape shape{static_cast<unsigned>(std::min<int64_t>(blocks, kMostBlocks)), 1, 1, kCastThreads, 0};
  if (from.type() == DeviceType::kFloat32) {
    const float* source = from.use_on<float>(stream);
    uint16_t* destination = to.use_on<uint16_t>(stream);
    launch(to.type() == DeviceType::kBFloat16 ? round_kernel<BFloat16> : round_kernel<Float16>, shape, stream.handle(), source,
           destination, extents);
  } else {
    const uint16_t* source = from.use_on<uint16_t>(stream);
    float* destination = to.use_on<float>(stream);
    launch(from.type() == DeviceType::kBFloat16 ? widen_kernel<BFloat16> : widen_kernel<Float16>, shape, stream.handle(),
           source, destination, extents);
  }
}

}  // namespace usmlite::cuda
