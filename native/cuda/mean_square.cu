#include "cuda/mean_square.hpp"

#include <cfloat>

#include "cuda/block_reduction.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.hpp"
#include "cuda/scratch_matrix.hpp"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

constexpr int64_t kMostSquareBlocks = 512;  // each of which leaves a pair of sums
constexpr int kSquareThreads = 32 * kWarpsPerBlock;

template <typename T> struct Compared {
  const typename Element<T>::Type *student, *teacher;
  int64_t student_stride, teacher_stride, rows;
  int columns;
};

/// sums (blocks, 2): |student - teacher|² and |teacher|² of the rows of a block. A warp takes a row at a time.
template <typename T> __global__ void __launch_bounds__(kSquareThreads) squared_distance_kernel(const Compared<T> a, double* sums) {
  ptx::take_turn();
  double of_thread[2] = {0.0, 0.0};
  for (int64_t row = row_of_warp(); row < a.rows; row += int64_t{gridDim.x} * kWarpsPerBlock) {
    float distance = 0.0f, energy = 0.0f;
    for (int i = ptx::lane_id(); i < a.columns; i += 32) {
      const float wanted = Element<T>::load(a.teacher + row * a.teacher_stride + i);
      const float difference = Element<T>::load(a.student + row * a.student_stride + i) - wanted;
      distance += difference * difference;
      energy += wanted * wanted;
    }
    of_thread[0] += static_cast<double>(distance);
    of_thread[1] += static_cast<double>(energy);
  }
  block_sums<kWarpsPerBlock>(of_thread, reinterpret_cast<double*>(shared_memory()));
  if (threadIdx.x > 0) return;
  sums[2 * blockIdx.x] = of_thread[0];
  sums[2 * blockIdx.x + 1] = of_thread[1];
}

__global__ void __launch_bounds__(kSquareThreads) squared_ratio_kernel(const double* sums, int blocks, float* value, float* factor) {
  ptx::take_turn();
  double total[2] = {0.0, 0.0};
  for (int block = static_cast<int>(threadIdx.x); block < blocks; block += kSquareThreads) {
    total[0] += sums[2 * block];
    total[1] += sums[2 * block + 1];
  }
  block_sums<kWarpsPerBlock>(total, reinterpret_cast<double*>(shared_memory()));
  if (threadIdx.x > 0) return;
  const double energy = total[1] > 0.0 || total[1] != total[1] ? total[1] : DBL_TRUE_MIN;
  *value = static_cast<float>(total[0] / energy);
  *factor = static_cast<float>(2.0 / energy);
}

template <typename T>
__global__ void __launch_bounds__(kSquareThreads) squared_distance_backward_kernel(const Compared<T> a, const float* factor, const float* upstream,
                                                                                   typename Element<T>::Type* gradient, int64_t gradient_stride) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= a.rows) return;
  const float scale = *factor * *upstream;
  for (int i = ptx::lane_id(); i < a.columns; i += 32) {
    const float difference = Element<T>::load(a.student + row * a.student_stride + i) - Element<T>::load(a.teacher + row * a.teacher_stride + i);
    Element<T>::store(gradient + row * gradient_stride + i, scale * difference);
  }
}

template <typename T> Compared<T> compared(const DeviceMatrix& student, const DeviceMatrix& teacher, const Stream& stream) {
  using Type = typename Element<T>::Type;
  return {student.use_on<Type>(stream), teacher.use_on<Type>(stream), student.row_stride(), teacher.row_stride(), student.rows(),
          static_cast<int>(student.columns())};
}

LaunchShape square_shape(int64_t blocks, size_t shared_bytes) {
  return {static_cast<unsigned>(blocks), 1, 1, kSquareThreads, shared_bytes, 1, kernels_take_turns()};
}

template <typename T> void measure(const DeviceMatrix& student, const DeviceMatrix& teacher, double* sums, int64_t blocks, const Stream& stream) {
  launch(squared_distance_kernel<T>, square_shape(blocks, 2 * kWarpsPerBlock * sizeof(double)), stream.handle(),
         compared<T>(student, teacher, stream), sums);
}

template <typename T>
void differentiate(const DeviceMatrix& student, const DeviceMatrix& teacher, const float* factor, const float* upstream, const DeviceMatrix& gradient,
                   const Stream& stream) {
  launch(squared_distance_backward_kernel<T>, square_shape(blocks_of_warps(student.rows()), 0), stream.handle(),
         compared<T>(student, teacher, stream), factor, upstream, gradient.use_on<typename Element<T>::Type>(stream), gradient.row_stride());
}

}  // namespace

void relative_mean_square(const DeviceMatrix& student, const DeviceMatrix& teacher, const DeviceMatrix& value, const DeviceMatrix& factor,
                          const Stream& stream) {
  const int64_t wanted = (student.rows() + kWarpsPerBlock - 1) / kWarpsPerBlock;
  const int64_t blocks = wanted < 1 ? 1 : wanted < kMostSquareBlocks ? wanted : kMostSquareBlocks;
  const ScratchMatrix sums = ScratchMatrix::of_doubles(2 * blocks, stream);
  auto* of_blocks = sums.use_on<double>(stream);
  const auto of_type = student.type() == DeviceType::kFloat32 ? measure<Float32> : measure<BFloat16>;
  of_type(student, teacher, of_blocks, blocks, stream);
  launch(squared_ratio_kernel, square_shape(1, 2 * kWarpsPerBlock * sizeof(double)), stream.handle(), of_blocks, static_cast<int>(blocks),
         value.use_on<float>(stream), factor.use_on<float>(stream));
}

void relative_mean_square_backward(const DeviceMatrix& student, const DeviceMatrix& teacher, const DeviceMatrix& factor,
                                   const DeviceMatrix& upstream, const DeviceMatrix& gradient, const Stream& stream) {
  if (student.rows() == 0) return;
  const auto of_type = student.type() == DeviceType::kFloat32 ? differentiate<Float32> : differentiate<BFloat16>;
  of_type(student, teacher, factor.use_on<float>(stream), upstream.use_on<float>(stream), gradient, stream);
}

}  // namespace usmlite::cuda
