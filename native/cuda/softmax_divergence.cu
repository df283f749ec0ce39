#include "cuda/softmax_divergence.hpp"

#include "cuda/block_reduction.cuh"
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

  __device__ __forceinline__ Normaliser(const uint16_t* x, int columns, float factor)
      : largest(ptx::float_of(0xff800000u)), sum(0.0f), factor(factor) {
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

__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    weight_of_others_kernel(const Rows rows, int64_t count, int columns, int column, bool whole, float* weights) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= count) return;
  const uint16_t* logits = rows.logits + row * rows.stride;
  const Normaliser normaliser(logits, columns, kLog2E);
  if (ptx::lane_id() > 0) return;
  const float others = 1.0f - ptx::exponential_base_2(normaliser.exponent(logits[column])) / normaliser.sum;
  weights[row] = whole ? (others > 0.5f ? 1.0f : 0.0f) : others;
}

constexpr int kMeanWarps = 8, kMeanThreads = 32 * kMeanWarps;

/// One block: there is a divergence for each frame of a batch, some thousands.
__global__ void __launch_bounds__(kMeanThreads)
    mean_divergence_kernel(const float* divergences, const float* weights, int rows, float factor, float* shares, float* mean) {
  ptx::take_turn();
  auto* of_warps = reinterpret_cast<double*>(shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  double total = 0.0, sum = 0.0;
  for (int row = thread; row < rows; row += kMeanThreads) total += weights ? static_cast<double>(weights[row]) : 1.0;
  total = block_reduce<kMeanWarps>(total, of_warps, Sum{});
  for (int row = thread; row < rows; row += kMeanThreads) {
    const double share = total > 0.0 ? (weights ? static_cast<double>(weights[row]) : 1.0) / total : 0.0;
    shares[row] = static_cast<float>(share);
    if (share > 0.0) sum += share * static_cast<double>(divergences[row]);
  }
  sum = block_reduce<kMeanWarps>(sum, of_warps + kMeanWarps, Sum{});
  if (thread == 0) *mean = static_cast<float>(static_cast<double>(factor) * sum);
}

__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    scale_rows_kernel(uint16_t* x, int64_t stride, int64_t rows, int columns, const float* shares, const float* upstream, float factor) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const float share = shares[row], scale = factor * share * *upstream;
  for (int i = ptx::lane_id(); i < columns; i += 32) {
    uint16_t* element = x + row * stride + i;
    *element = share > 0.0f ? ptx::from_float<BFloat16>(scale * ptx::to_float<BFloat16>(*element)) : 0;
  }
}

Rows rows_of(const DeviceMatrix& logits, const Stream& stream) { return {logits.use_on<uint16_t>(stream), logits.row_stride()}; }

LaunchShape shape_for(int64_t rows) {
  return {blocks_of_warps(rows), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()};
}

}  // namespace

void softmax_divergence(const DeviceMatrix& student, const DeviceMatrix& teacher, float temperature, const DeviceMatrix& divergences,
                        const DeviceMatrix* gradient, const Stream& stream) {
  if (student.rows() == 0) return;
  DivergenceArguments a{rows_of(student, stream), rows_of(teacher, stream), divergences.use_on<float>(stream), nullptr, 0, student.rows(),
                        static_cast<int>(student.columns()), kLog2E / temperature};
  if (gradient) a.gradient = gradient->use_on<uint16_t>(stream), a.gradient_stride = gradient->row_stride();
  launch(softmax_divergence_kernel, shape_for(student.rows()), stream.handle(), a);
}

void weight_of_others(const DeviceMatrix& logits, int64_t column, bool whole, const DeviceMatrix& weights, const Stream& stream) {
  if (logits.rows() == 0) return;
  launch(weight_of_others_kernel, shape_for(logits.rows()), stream.handle(), rows_of(logits, stream), logits.rows(),
         static_cast<int>(logits.columns()), static_cast<int>(column), whole, weights.use_on<float>(stream));
}

void mean_divergence(const DeviceMatrix& divergences, const DeviceMatrix* weights, float factor, const DeviceMatrix& shares, const DeviceMatrix& mean,
                     const Stream& stream) {
  const LaunchShape shape{1, 1, 1, kMeanThreads, 2 * kMeanWarps * sizeof(double), 1, kernels_take_turns()};
  launch(mean_divergence_kernel, shape, stream.handle(), divergences.use_on<float>(stream), weights ? weights->use_on<float>(stream) : nullptr,
         static_cast<int>(divergences.columns()), factor, shares.use_on<float>(stream), mean.use_on<float>(stream));
}

void scale_rows(const DeviceMatrix& x, const DeviceMatrix& shares, const DeviceMatrix& upstream, float factor, const Stream& stream) {
  if (x.rows() == 0) return;
  launch(scale_rows_kernel, shape_for(x.rows()), stream.handle(), x.use_on<uint16_t>(stream), x.row_stride(), x.rows(), static_cast<int>(x.columns()),
         shares.use_on<float>(stream), upstream.use_on<float>(stream), factor);
}

}  // namespace usmlite::cuda
