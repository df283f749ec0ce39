#include "cuda/row_copies.hpp"

#include "cuda/element.cuh"
#include "cuda/launch.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kCopyThreads = 128;  // a block takes a row

template <typename T> __global__ void __launch_bounds__(kCopyThreads)
    gather_rows_kernel(const typename Element<T>::Type* x, int64_t x_stride, const int32_t* indices, uint16_t* y, int64_t y_stride, int columns) {
  ptx::take_turn();
  const auto* from = x + indices[blockIdx.x] * x_stride;
  for (int column = static_cast<int>(threadIdx.x); column < columns; column += kCopyThreads) {
    Element<BFloat16>::store(y + blockIdx.x * y_stride + column, Element<T>::load(from + column));
  }
}

__global__ void __launch_bounds__(kCopyThreads) add_rows_kernel(const uint16_t* x, int64_t x_stride, const int32_t* indices, const int32_t* offsets,
                                                            const int32_t* places, float* sum, int64_t sum_stride, int columns) {
  ptx::take_turn();
  const int begin = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
  float* row = sum + indices[places[begin]] * sum_stride;
  for (int column = static_cast<int>(threadIdx.x); column < columns; column += kCopyThreads) {
    float total = row[column];
    for (int i = begin; i < end; ++i) total += Element<BFloat16>::load(x + places[i] * x_stride + column);
    row[column] = total;
  }
}

LaunchShape copy_shape(int64_t rows) { return {static_cast<unsigned>(rows), 1, 1, kCopyThreads, 0, 1, kernels_take_turns()}; }

}  // namespace

void gather_rows(const DeviceMatrix& x, const PackedSequences& indices, const DeviceMatrix& y, const Stream& stream) {
  const LaunchShape shape = copy_shape(y.rows());
  const auto columns = static_cast<int>(x.columns());
  uint16_t* to = y.use_on<uint16_t>(stream);
  if (x.type() == DeviceType::kFloat32) {
    launch(gather_rows_kernel<Float32>, shape, stream.handle(), x.use_on<float>(stream), x.row_stride(), indices.rows, to, y.row_stride(), columns);
  } else {
    launch(gather_rows_kernel<BFloat16>, shape, stream.handle(), x.use_on<uint16_t>(stream), x.row_stride(), indices.rows, to, y.row_stride(),
           columns);
  }
}

void add_rows(const DeviceMatrix& x, const PackedSequences& indices, const PackedSequences& places, const DeviceMatrix& sum,
              const Stream& stream) {
  launch(add_rows_kernel, copy_shape(places.count), stream.handle(), x.use_on<uint16_t>(stream), x.row_stride(), indices.rows, places.offsets,
         places.rows, sum.use_on<float>(stream), sum.row_stride(), static_cast<int>(x.columns()));
}

}  // namespace usmlite::cuda
