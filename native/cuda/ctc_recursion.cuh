// What the recursions of the CTC loss keep: an utterance's labels, its states in shared memory, and what frames emit.
#pragma once
#include "cuda/block_reduction.cuh"
#include "cuda/ctc_loss_kernels.hpp"
#include "cuda/natural_logarithm.cuh"

namespace usmlite::cuda::ctc {

inline constexpr int kRecursionThreads = 256, kRecursionWarps = kRecursionThreads / 32;
// Logarithm of an impossible state. Finite, so that differences of two are not NaN; below any sum of possible ones.
inline constexpr float kNever = -1e30f;
inline constexpr float kLowestLogProbability = -1e20f;
inline constexpr uint32_t kInfinity = 0x7f800000u, kNotANumber = 0x7fc00000u;

__device__ __forceinline__ bool is_finite(float x) { return (ptx::bits_of(x) & kInfinity) != kInfinity; }

__device__ __forceinline__ float log_add(float a, float b, float c) {
  const float high = fmaxf(fmaxf(a, b), c);
  return high + logarithm(exponential(a - high) + exponential(b - high) + exponential(c - high));
}

/// One utterance of the batch.
struct Utterance {
  int64_t first_frame;
  int frames;
  const CtcLabel* labels;
  int count, states;

  __device__ __forceinline__ Utterance(const CtcLossArguments& a, int sequence)
      : first_frame(a.sequences.offsets[sequence]), frames(static_cast<int>(a.sequences.offsets[sequence + 1] - first_frame)),
        labels(a.labels + a.label_offsets[sequence]), count(a.label_offsets[sequence + 1] - a.label_offsets[sequence]),
        states(2 * count + 1) {}
  /// Whether a path may come to state s from s - 2.
  __device__ __forceinline__ bool skips_to(int s) const {
    return s % 2 == 1 && s >= 3 && s < states && labels[s / 2].token != labels[s / 2 - 1].token;
  }
};

/// Shared memory of the recursions: two rows of states with two impossible ones in front and behind, 0 or kNever for each
/// state (what a path that skips a blank adds), and two rows of the warps' largest values.
struct RecursionMemory {
  int stride;
  float* begin;

  __device__ __forceinline__ explicit RecursionMemory(int longest_transcript)
      : stride(2 * longest_transcript + 5), begin(reinterpret_cast<float*>(shared_memory())) {}
  __device__ __forceinline__ float* row(int which) const { return begin + which * stride + 2; }
  __device__ __forceinline__ float* skip() const { return begin + 2 * stride + 2; }
  __device__ __forceinline__ float* largest(int which) const { return begin + 3 * stride + which * kRecursionWarps; }

  /// Fills `skip`, and the impossible states in front of and behind the others.
  __device__ __forceinline__ void prepare(const Utterance& utterance) const {
    const int thread = static_cast<int>(threadIdx.x), states = utterance.states;
    for (int s = thread; s < states + 2; s += kRecursionThreads) skip()[s] = utterance.skips_to(s) ? 0.0f : kNever;
    if (thread < 2) {
      for (int which = 0; which < 2; ++which) row(which)[-1 - thread] = row(which)[states + thread] = kNever;
    }
  }
  /// To be called by all threads before they meet.
  __device__ __forceinline__ void publish_largest(int which, float value) const {
    value = warp_reduce(value, Larger{});
    const int warp = ptx::warp_id();
    if (ptx::lane_id() == 0) largest(which)[warp] = value;
  }
  /// After they have met.
  __device__ __forceinline__ float read_largest(int which) const {
    float value = largest(which)[0];
    for (int warp = 1; warp < kRecursionWarps; ++warp) value = fmaxf(value, largest(which)[warp]);
    return value;
  }
};

/// The state's column of emissions.
__device__ __forceinline__ int emission_of(int s) { return s % 2 == 1 ? s / 2 + 1 : 0; }

/// Log-probabilities of the states of one frame after another. That of a thread's first state, mostly its only one, is fetched a frame
/// ahead: it would come long after the threads have met.
class Emissions {
 public:
  /// `direction`: 1, or -1 to the frame before.
  __device__ __forceinline__ Emissions(const CtcLossArguments& a, const Utterance& utterance, int frame, int direction)
      : row_(a.emissions + (utterance.first_frame + frame) * a.emissions_stride), step_(direction * a.emissions_stride),
        first_(static_cast<int>(threadIdx.x)), is_used_(first_ < utterance.states), left_(utterance.frames) {
    fetch(row_);
  }
  __device__ __forceinline__ float of(int s) const { return s == first_ ? fetched_ : row_[emission_of(s)]; }
  /// To be called before the threads meet.
  __device__ __forceinline__ void advance() {
    row_ += step_;
    if (--left_ > 0) fetch(row_);
  }

 private:
  __device__ __forceinline__ void fetch(const float* row) {
    if (is_used_) fetched_ = row[emission_of(first_)];
  }

  const float* row_;
  int64_t step_;
  int first_;
  bool is_used_;
  int left_;
  float fetched_ = 0.0f;
};

}  // namespace usmlite::cuda::ctc
