#include "cuda/softmax_divergence.hpp"

#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"
#include "cuda/ptx.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

struct Rows {
  const uint16_t* logits;
  int64_t stride;
};

struct DivergenceArguments {
  Rows student, teacher;
  float* divergences;
  uint16_t* gradient;
  int64_t gradient_stride, rows;
  int columns;
  float factor;  // log2(e) / temperature
};

/// 2^exponent(x) / sum is the probability of x.
struct Normaliser {
  float largest, sum, factor;

  __device__ __forceinline__ Normaliser(const uint16_t* x, int columns, float factor) : largest(ptx::float_of(0xff800000u)), sum(0.0f), factor(factor) {
    const int lane = ptx::lane_id();
    for (int i = lane; i < columns; i += 32) largest = fmaxf(largest, ptx::to_float<BFloat16>(x[i]));
    for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, ptx::shuffle_xor(largest, distance));
    for (int i = lane; i < columns; i += 32) sum += ptx::exponential_base_2(exponent(x[i]));
    for (int distance = 16; distance > 0; distance /= 2) sum += ptx::shuffle_xor(sum, distance);
  }
  __device__ __forceinline__ float exponent(uint16_t x) const { return (ptx::to_float<BFloat16>(x) - largest) * factor; }
};

__global__ void __launch_bounds__(32 * kWarpsPerBlock) softmax_divergence_kernel(const DivergenceArguments a) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= a.rows) return;
  const uint16_t *student = a.student.logits + row * a.student.stride, *teacher = a.teacher.logits + row * a.teacher.stride;
  const Normaliser of_student(student, a.columns, a.factor), of_teacher(teacher, a.columns, a.factor);
  float sum = 0.0f;
  for (int i = ptx::lane_id(); i < a.columns; i += 32) {
    const float taught = of_teacher.exponent(teacher[i]), found = of_student.exponent(student[i]);
    const float probability = ptx::exponential_base_2(taught) / of_teacher.sum;
    sum += probability > 0.0f ? probability * (taught - found) : 0.0f;
    if (a.gradient) {
      a.gradient[row * a.gradient_stride + i] = ptx::from_float<BFloat16>(ptx::exponential_base_2(found) / of_student.sum - probability);
    }
  }
  for (int distance = 16; distance > 0; distance /= 2) sum += ptx::shuffle_xor(sum, distance);
  if (ptx::lane_id() == 0) {
    a.divergences[row] = kLn2 * (sum + ptx::logarithm_base_2(of_student.sum) - ptx::logarithm_base_2(of_teacher.sum));
  }
}

__global__ void __launch_bounds__(32 * kWarpsPerBlock) column_probability_kernel(const Rows rows, int64_t count, int columns, int column, float* probabilities) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= count) return;
  const uint16_t* logits = rows.logits + row * rows.stride;
  const Normaliser normaliser(logits, columns, kLog2E);
  if (ptx::lane_id() == 0) probabilities[row] = ptx::exponential_base_2(normaliser.exponent(logits[column])) / normaliser.sum;
}

Rows rows_of(const DeviceTensor& logits, const std::shared_ptr<Stream>& stream) { return {logits.use_on<uint16_t>(stream), logits.row_stride()}; }

LaunchShape shape_for(int64_t rows) {
  return {blocks_of_warps(rows), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()};
}

}  // namespace

void softmax_divergence(const DeviceTensor& student, const DeviceTensor& teacher, float temperature, const DeviceTensor& divergences,
                        const DeviceTensor* gradient, const std::shared_ptr<Stream>& stream) {
  if (student.rows() == 0) return;
  DivergenceArguments a{rows_of(student, stream), rows_of(teacher, stream), divergences.use_on<float>(stream), nullptr, 0, student.rows(),
                        static_cast<int>(student.columns()), kLog2E / temperature};
  if (gradient) a.gradient = gradient->use_on<uint16_t>(stream), a.gradient_stride = gradient->row_stride();
  launch(softmax_divergence_kernel, shape_for(student.rows()), stream->handle(), a);
}

void column_probability(const DeviceTensor& logits, int64_t column, const DeviceTensor& probabilities, const std::shared_ptr<Stream>& stream) {
  if (logits.rows() == 0) return;
  launch(column_probability_kernel, shape_for(logits.rows()), stream->handle(), rows_of(logits, stream), logits.rows(),
         static_cast<int>(logits.columns()), static_cast<int>(column), probabilities.use_on<float>(stream));
}

}  // namespace usmlite::cuda
