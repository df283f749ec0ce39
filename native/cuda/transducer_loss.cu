#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"
#include "cuda/transducer_paths.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

using transducer::ArcShares, transducer::arc_shares, transducer::Cell, transducer::kNever, transducer::Lattice, transducer::Utterance;

constexpr int kStep = 32 * kHalvesPerVector;
constexpr int kPathThreads = 128, kPathWarps = kPathThreads / 32;
constexpr int kLessonThreads = 256, kLessonWarps = kLessonThreads / 32;
constexpr float kLowest = -3.402823466e38f;
constexpr uint32_t kInfinity = 0x7f800000u, kNotANumber = 0x7fc00000u;
// Cells with a smaller share of all paths are left out of the gradient, as on the CPU: far below the rounding of the others.
constexpr float kSmallestShare = 1e-9f;

__device__ __forceinline__ bool is_finite(float x) { return (ptx::bits_of(x) & kInfinity) != kInfinity; }

struct SlabArguments {
  TransducerCells cells;
  TransducerSlab slab;
  TransducerLogits what;
  TransducerDurations durations;
  uint16_t* logits;
  int64_t rows, stride;

  __device__ __forceinline__ int outputs() const { return what.vocabulary + durations.count; }
  __device__ __forceinline__ float logit(const uint16_t* row, int output) const { return ptx::to_float<BFloat16>(row[output]) + what.bias[output]; }
  /// Eight of a row, and zeros behind its end.
  __device__ __forceinline__ void load(const uint16_t* row, int column, float (&x)[kHalvesPerVector]) const {
    float bias[kHalvesPerVector];
    load_values<BFloat16>(row + column, x);
    load_parameters(what.bias, column, outputs(), 0.0f, bias);
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) x[i] += bias[i];
  }
};

__global__ void __launch_bounds__(32 * kWarpsPerBlock) emissions_kernel(const SlabArguments a, float* lattice) {
  ptx::take_turn();
  const int row = static_cast<int>(row_of_warp()), lane = ptx::lane_id();
  if (row >= a.slab.count) return;
  const Cell cell(a.cells, a.slab.first + row);
  const uint16_t* x = a.logits + row * a.stride;
  float largest = kLowest, sum = 0.0f, zeros = 0.0f;  // zeros: NaN where something is not finite
  float values[kHalvesPerVector];
  for (int column = lane * kHalvesPerVector; column < a.what.vocabulary; column += kStep) {
    a.load(x, column, values);
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) largest = fmaxf(largest, column + i < a.what.vocabulary ? values[i] : kLowest);
  }
  largest = warp_reduce(largest, Larger{});
  for (int column = lane * kHalvesPerVector; column < a.what.vocabulary; column += kStep) {
    a.load(x, column, values);
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) {
      if (column + i >= a.what.vocabulary) continue;
      sum += exponential(values[i] - largest);
      zeros += 0.0f * values[i];
    }
  }
  const float normaliser = largest + logarithm(warp_reduce(sum, Sum{})) + warp_reduce(zeros, Sum{}) + a.what.undernormalization;
  float* kept = lattice + static_cast<int64_t>(a.slab.first + row) * transducer::kept(a.durations);
  if (lane == 0) kept[0] = a.logit(x, a.what.blank) - normaliser;
  if (lane == 1) kept[1] = cell.has_label() ? a.logit(x, cell.label(a.cells)) - normaliser : 0.0f;
  if (a.durations.count == 0) return;
  const bool own = lane < a.durations.count;
  const float duration = own ? a.logit(x, a.what.vocabulary + lane) : kLowest;
  const float longest = warp_reduce(duration, Larger{});
  const float total = warp_reduce(own ? exponential(duration - longest) : 0.0f, Sum{}), infinite = warp_reduce(own ? 0.0f * duration : 0.0f, Sum{});
  if (own) kept[2 + lane] = duration - longest - logarithm(total) + infinite;
}

struct PathArguments {
  TransducerCells cells;
  TransducerDurations durations;
  const float* lattice;
  TransducerPaths paths;
  float* losses;
};

/// Calls visit(t, u) for all cells of a diagonal, t + u of which are the same: each depends on earlier diagonals only, or with durations above 0
/// on those further back.
template <typename Visit> __device__ __forceinline__ void for_each_of_diagonal(const Utterance& utterance, int diagonal, Visit&& visit) {
  const int last = min(utterance.label_count, diagonal);
  for (int u = max(0, diagonal - utterance.frames + 1) + static_cast<int>(threadIdx.x); u <= last; u += kPathThreads) visit(diagonal - u, u);
}

/// A block takes an utterance, from the front or (blockIdx.y 1) from the end; its threads share a diagonal.
__global__ void __launch_bounds__(kPathThreads) paths_kernel(const PathArguments a) {
  ptx::take_turn();
  const Utterance utterance(a.cells, static_cast<int>(blockIdx.x));
  const Lattice lattice{utterance, a.durations, a.lattice};
  const int thread = static_cast<int>(threadIdx.x), diagonals = utterance.frames > 0 ? utterance.frames + utterance.label_count : 0;
  if (blockIdx.y == 1) {
    double* beta = a.paths.beta;
    for (int diagonal = diagonals - 1; diagonal >= 0; --diagonal) {
      for_each_of_diagonal(utterance, diagonal, [&](int t, int u) { beta[utterance.cell(t, u)] = lattice.from(t, u, beta); });
      ptx::block_sync();
    }
    return;
  }
  const int64_t numbers = int64_t{utterance.frames} * utterance.places() * transducer::kept(a.durations);
  float not_finite = 0.0f;
  for (int64_t i = thread; i < numbers; i += kPathThreads) {
    if (!is_finite(lattice.at(utterance.first_cell)[i])) not_finite = 1.0f;
  }
  not_finite = block_reduce<kPathWarps>(not_finite, reinterpret_cast<float*>(shared_memory()), Larger{});
  double* alpha = a.paths.alpha;
  for (int diagonal = 0; diagonal < diagonals; ++diagonal) {
    for_each_of_diagonal(utterance, diagonal, [&](int t, int u) { alpha[utterance.cell(t, u)] = lattice.up_to(t, u, alpha); });
    ptx::block_sync();
  }
  if (thread != 0) return;
  const double likelihood = not_finite != 0.0f ? static_cast<double>(ptx::float_of(kNotANumber)) : lattice.likelihood(alpha);
  a.paths.likelihoods[utterance.index] = likelihood;
  if (a.losses) a.losses[utterance.index] = likelihood < kLowestLikelihood ? ptx::float_of(kInfinity) : static_cast<float>(-likelihood);
}

/// What a cell says of blank, next label, anything else and durations (core/transducer_distillation.hpp).
struct Collapsed {
  const float* kept;
  bool has_label;
  float undernormalization;

  __device__ __forceinline__ float log_blank() const { return kept[0] + undernormalization; }
  __device__ __forceinline__ float log_label() const { return kept[1] + undernormalization; }
  __device__ __forceinline__ float blank() const { return exponential(log_blank()); }
  __device__ __forceinline__ float label() const { return has_label ? exponential(log_label()) : 0.0f; }
  __device__ __forceinline__ float rest() const { return fmaxf(0.0f, 1.0f - blank() - label()); }
  __device__ __forceinline__ float duration(int index) const { return exponential(kept[2 + index]); }
};

constexpr float kLowestLogProbability = -87.498f;  // a student that is sure of the opposite is as far away as float32 can say

/// q ln(q / p), of logarithms.
__device__ __forceinline__ float divergence_term(float q, float log_q, float log_p) {
  return q > 0.0f ? q * (log_q - (log_p < kLowestLogProbability ? kLowestLogProbability : log_p)) : 0.0f;
}

__device__ __forceinline__ float divergence_of(const Collapsed& student, const Collapsed& teacher, int durations) {
  const float rest = teacher.rest();
  float sum = divergence_term(teacher.blank(), teacher.log_blank(), student.log_blank());
  sum += divergence_term(rest, logarithm(rest), logarithm(student.rest()));
  if (teacher.has_label) sum += divergence_term(teacher.label(), teacher.log_label(), student.log_label());
  for (int i = 0; i < durations; ++i) sum += divergence_term(teacher.duration(i), teacher.kept[2 + i], student.kept[2 + i]);
  return sum;
}

struct LessonArguments {
  TransducerCells cells;
  TransducerDurations durations;
  const float *teacher, *student;
  TransducerPaths paths;
  float undernormalization;
  float *shares, *divergences;
};

/// A block takes an utterance.
__global__ void __launch_bounds__(kLessonThreads) lesson_kernel(const LessonArguments a) {
  ptx::take_turn();
  const Utterance utterance(a.cells, static_cast<int>(blockIdx.x));
  const Lattice lattice{utterance, a.durations, a.teacher};
  const int places = utterance.places(), cells = utterance.frames * places;
  const bool has_paths = a.paths.likelihoods[utterance.index] > kLowestLikelihood;
  auto* of_warps = reinterpret_cast<float*>(shared_memory());
  float* shares = a.shares + utterance.first_cell;
  float total = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < cells; i += kLessonThreads) {
    float share = 0.0f;
    for (int index = 0; has_paths && index < lattice.arcs(); ++index) {
      const ArcShares arcs = arc_shares(lattice, a.paths, i / places, i % places, index);
      share += arcs.blank + arcs.label;
    }
    shares[i] = share;
    total += share;
  }
  total = block_reduce<kLessonWarps>(total, of_warps, Sum{});
  const float reciprocal = total > 0.0f ? 1.0f / total : 0.0f;
  float divergence = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < cells; i += kLessonThreads) {
    const float share = shares[i] * reciprocal;
    shares[i] = share;
    if (!(share > 0.0f)) continue;
    const int64_t kept = static_cast<int64_t>(utterance.first_cell + i) * transducer::kept(a.durations);
    const bool has_label = i % places < utterance.label_count;
    divergence += share * divergence_of({a.student + kept, has_label, a.undernormalization}, {a.teacher + kept, has_label, 0.0f}, a.durations.count);
  }
  divergence = block_reduce<kLessonWarps>(divergence, of_warps + kLessonWarps, Sum{});
  if (threadIdx.x == 0) a.divergences[utterance.index] = divergence;
}

/// The same value in all outputs of a row.
__device__ __forceinline__ void fill_row(const SlabArguments& a, uint16_t* x, float value) {
  for (int column = ptx::lane_id() * kHalvesPerVector; column < a.stride; column += kStep) {
    float values[kHalvesPerVector];
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) values[i] = column + i < a.outputs() ? value : 0.0f;
    store_values<BFloat16>(x + column, values);
  }
}

/// Softmax times the share of paths that pass, minus the shares of what they take; and, by the cell's share of the lesson, softmax minus what the
/// teacher says, whose rest is spread over the tokens as the student spreads its own.
__global__ void __launch_bounds__(32 * kWarpsPerBlock) logit_gradient_kernel(const SlabArguments a, const TransducerSlopes slopes) {
  ptx::take_turn();
  const int row = static_cast<int>(row_of_warp()), lane = ptx::lane_id();
  if (row >= a.rows) return;
  uint16_t* x = a.logits + row * a.stride;
  if (row >= a.slab.count) return fill_row(a, x, 0.0f);
  const Cell cell(a.cells, a.slab.first + row);
  const Utterance& utterance = cell.utterance;
  const float loss = slopes.losses[utterance.index];
  if (!is_finite(loss)) return fill_row(a, x, loss != loss ? loss : 0.0f);
  const Lattice lattice{utterance, a.durations, slopes.lattice};
  const ArcShares own = lane < lattice.arcs() ? arc_shares(lattice, slopes.paths, cell.t, cell.u, lane) : ArcShares{0.0f, 0.0f};
  const float blank = warp_reduce(own.blank, Sum{}), label = warp_reduce(own.label, Sum{});
  const float taught = slopes.teacher && slopes.divergence_upstream ? slopes.shares[a.slab.first + row] : 0.0f;
  if (!(blank + label > kSmallestShare || taught > kSmallestShare)) return fill_row(a, x, 0.0f);
  const float factor = slopes.upstream ? slopes.factors[utterance.index] * *slopes.upstream : 0.0f;
  const float lesson = taught > 0.0f ? taught * slopes.divergence_factor * *slopes.divergence_upstream : 0.0f;
  const float share = factor * (blank + label);
  const int64_t kept = static_cast<int64_t>(a.slab.first + row) * transducer::kept(a.durations);
  const Collapsed student{slopes.lattice + kept, cell.has_label(), a.what.undernormalization};
  const Collapsed teacher{(slopes.teacher ? slopes.teacher : slopes.lattice) + kept, cell.has_label(), 0.0f};
  const float blank_probability = student.blank(), label_probability = student.label();
  const float rest = fmaxf(1.0f - blank_probability - label_probability, 1e-6f);
  const float of_others = share + lesson * (1.0f - (lesson != 0.0f ? teacher.rest() / rest : 0.0f));
  // The softmax's denominator follows from what was kept, so a row is gone through once.
  const float normaliser = ptx::shuffle(lane == 0 ? a.logit(x, a.what.blank) - student.log_blank() : 0.0f, 0);
  ptx::warp_sync();  // a shuffle orders no memory
  for (int column = lane * kHalvesPerVector; column < a.stride; column += kStep) {
    float values[kHalvesPerVector];
    a.load(x, column, values);
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i) values[i] = column + i < a.what.vocabulary ? of_others * exponential(values[i] - normaliser) : 0.0f;
    store_values<BFloat16>(x + column, values);
  }
  ptx::warp_sync();
  const auto put = [&](int output, float probability, float posterior, float wanted) {
    x[output] = ptx::from_float<BFloat16>((share + lesson) * probability - factor * posterior - lesson * wanted);
  };
  if (lane == 0) put(a.what.blank, blank_probability, blank, teacher.blank());
  if (lane == 1 && cell.has_label()) put(cell.label(a.cells), label_probability, label, teacher.label());
  if (lane < a.durations.count) put(a.what.vocabulary + lane, student.duration(lane), own.blank + own.label, teacher.duration(lane));
}

SlabArguments slab_arguments(const TransducerCells& cells, const TransducerSlab& slab, const TransducerLogits& what,
                             const TransducerDurations& durations, const DeviceMatrix& logits, const Stream& stream) {
  return {cells, slab, what, durations, logits.use_on<uint16_t>(stream), logits.rows(), logits.row_stride()};
}

LaunchShape warp_for_each(int64_t rows) {
  return {blocks_of_warps(rows), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()};
}

}  // namespace

void transducer_emissions(const TransducerCells& cells, const TransducerSlab& slab, const TransducerLogits& what,
                          const TransducerDurations& durations, const DeviceMatrix& logits, float* lattice, const Stream& stream) {
  launch(emissions_kernel, warp_for_each(slab.count), stream.handle(), slab_arguments(cells, slab, what, durations, logits, stream), lattice);
}

void transducer_paths(const TransducerCells& cells, const TransducerDurations& durations, const float* lattice, const TransducerPaths& paths,
                      float* losses, const Stream& stream) {
  launch(paths_kernel,
         LaunchShape{static_cast<unsigned>(cells.count), paths.beta ? 2u : 1u, 1, kPathThreads, kPathWarps * sizeof(float), 1, kernels_take_turns()},
         stream.handle(), PathArguments{cells, durations, lattice, paths, losses});
}

void transducer_lesson(const TransducerCells& cells, const TransducerDurations& durations, const float* teacher, const TransducerPaths& paths,
                       const float* student, float undernormalization, float* shares, float* divergences, const Stream& stream) {
  launch(lesson_kernel,
         LaunchShape{static_cast<unsigned>(cells.count), 1, 1, kLessonThreads, 2 * kLessonWarps * sizeof(float), 1, kernels_take_turns()},
         stream.handle(), LessonArguments{cells, durations, teacher, student, paths, undernormalization, shares, divergences});
}

void transducer_logit_gradient(const TransducerCells& cells, const TransducerSlab& slab, const TransducerLogits& what,
                               const TransducerDurations& durations, const TransducerSlopes& slopes, const DeviceMatrix& logits,
                               const Stream& stream) {
  launch(logit_gradient_kernel, warp_for_each(logits.rows()), stream.handle(), slab_arguments(cells, slab, what, durations, logits, stream), slopes);
}

}  // namespace usmlite::cuda
