// Sums of the probabilities of paths through the lattice of a transducer. Logarithms are float64, differences of them and what is computed
// of these float32: paths multiply hundreds of probabilities, and a step adds an error of 1e-7 however long they are.
#pragma once

#include "cuda/natural_logarithm.cuh"
#include "cuda/transducer_cells.cuh"

namespace usmlite::cuda::transducer {

/// Logarithm of an impossible path. Finite, so that differences of two are not NaN; below any sum of possible ones.
inline constexpr double kNever = -1e30;

/// Logarithm of a sum of exponentials, term by term.
struct LogSum {
  double high = kNever;
  float sum = 0.0f;  // of exp(term - high)

  __device__ __forceinline__ void add(double term) {
    const float distance = exponential(static_cast<float>(term > high ? high - term : term - high));
    sum = term > high ? sum * distance + 1.0f : sum + distance;
    high = term > high ? term : high;
  }
  __device__ __forceinline__ double value() const { return sum > 0.0f ? high + static_cast<double>(logarithm(sum)) : kNever; }
};

/// What is known of one utterance, and the arcs between its cells: a blank moves on by a duration above 0, a label to the next label and by a
/// duration from 0. Arc `index` is one of the durations, or 0 without durations, when a blank takes one frame and a label none.
struct Lattice {
  const Utterance& utterance;
  const TransducerDurations& durations;
  const float* numbers;  // (all cells, kept)

  __device__ __forceinline__ int arcs() const { return max(durations.count, 1); }
  __device__ __forceinline__ int frames_of_blank(int index) const { return durations.count > 0 ? durations.frames[index] : 1; }
  __device__ __forceinline__ int frames_of_label(int index) const { return durations.count > 0 ? durations.frames[index] : 0; }
  __device__ __forceinline__ const float* at(int64_t cell) const { return numbers + cell * kept(durations); }
  __device__ __forceinline__ double duration(int64_t cell, int index) const { return durations.count > 0 ? double{at(cell)[2 + index]} : 0.0; }
  __device__ __forceinline__ double blank(int64_t cell, int index) const { return double{at(cell)[0]} + duration(cell, index); }
  __device__ __forceinline__ double label(int64_t cell, int index) const { return double{at(cell)[1]} + duration(cell, index); }

  /// Of all paths up to cell (t, u).
  __device__ __forceinline__ double up_to(int t, int u, const double* alpha) const {
    LogSum sum;
    if (t == 0 && u == 0) sum.add(0.0);
    for (int index = 0; index < arcs(); ++index) {
      const int silent = frames_of_blank(index), spoken = frames_of_label(index);
      if (silent > 0 && silent <= t) {
        const int64_t from = utterance.cell(t - silent, u);
        sum.add(alpha[from] + blank(from, index));
      }
      if (u > 0 && spoken <= t) {
        const int64_t from = utterance.cell(t - spoken, u - 1);
        sum.add(alpha[from] + label(from, index));
      }
    }
    return sum.value();
  }
  /// Of all paths: those that end with a blank behind the last label.
  __device__ __forceinline__ double likelihood(const double* alpha) const {
    LogSum sum;
    for (int index = 0; index < arcs(); ++index) {
      const int silent = frames_of_blank(index);
      if (silent == 0 || silent > utterance.frames) continue;
      const int64_t from = utterance.cell(utterance.frames - silent, utterance.label_count);
      sum.add(alpha[from] + blank(from, index));
    }
    return sum.value();
  }
  /// Of all paths from behind a blank of cell (t, u) to the end.
  __device__ __forceinline__ double behind_blank(int t, int u, int index, const double* beta) const {
    const int to = t + frames_of_blank(index);
    if (to == t || to > utterance.frames) return kNever;
    return to < utterance.frames ? beta[utterance.cell(to, u)] : u == utterance.label_count ? 0.0 : kNever;
  }
  __device__ __forceinline__ double behind_label(int t, int u, int index, const double* beta) const {
    const int to = t + frames_of_label(index);
    return u < utterance.label_count && to < utterance.frames ? beta[utterance.cell(to, u + 1)] : kNever;
  }
  /// Of all paths from cell (t, u) to the end.
  __device__ __forceinline__ double from(int t, int u, const double* beta) const {
    const int64_t cell = utterance.cell(t, u);
    LogSum sum;
    for (int index = 0; index < arcs(); ++index) {
      sum.add(blank(cell, index) + behind_blank(t, u, index, beta));
      sum.add(label(cell, index) + behind_label(t, u, index, beta));
    }
    return sum.value();
  }
};

/// Of the probability of all paths, what passes through two arcs of a cell.
struct ArcShares {
  float blank, label;
};
__device__ __forceinline__ ArcShares arc_shares(const Lattice& lattice, const TransducerPaths& paths, int t, int u, int index) {
  const int64_t cell = lattice.utterance.cell(t, u);
  const double before = paths.alpha[cell] - paths.likelihoods[lattice.utterance.index];
  return {exponential(static_cast<float>(before + lattice.blank(cell, index) + lattice.behind_blank(t, u, index, paths.beta))),
          exponential(static_cast<float>(before + lattice.label(cell, index) + lattice.behind_label(t, u, index, paths.beta)))};
}

}  // namespace usmlite::cuda::transducer
