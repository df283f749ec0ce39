// The softmax of a warp's queries over keys that come tile by tile (Milakov, Gimelshein 2018), and over parts of the keys that several
// warps go through.
#pragma once

#include "cuda/attention_tiles.cuh"

namespace usmlite::cuda {

namespace attention_tiles {

/// Of the four lanes that share rows.
__device__ __forceinline__ float row_maximum(float v) {
  v = fmaxf(v, ptx::shuffle_xor(v, 1));
  return fmaxf(v, ptx::shuffle_xor(v, 2));
}
__device__ __forceinline__ float row_sum(float v) {
  v += ptx::shuffle_xor(v, 1);
  return v + ptx::shuffle_xor(v, 2);
}

/// What a lane keeps of its rows g and g + 8 while it goes through the keys: `sums` of exp(score - maximum) v.
template <int kD> struct RunningSoftmax {
  float sums[kD / 8][4] = {};
  float maximum[2] = {kNever, kNever};
  float total[2] = {0.0f, 0.0f};  // this lane's share

  /// Takes in a tile of scores (in units of log 2), which become exp(score - maximum); their values are to be added by them.
  template <int kKeys> __device__ __forceinline__ void soften(float (&scores)[kKeys / 8][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum[half];
#pragma unroll
      for (int tile = 0; tile < kKeys / 8; ++tile) largest = fmaxf(largest, fmaxf(scores[tile][2 * half], scores[tile][2 * half + 1]));
      largest = row_maximum(largest);
      const float shrink = ptx::exponential_base_2(maximum[half] - largest);
      maximum[half] = largest;
      total[half] *= shrink;
#pragma unroll
      for (int tile = 0; tile < kD / 8; ++tile) sums[tile][2 * half] *= shrink, sums[tile][2 * half + 1] *= shrink;
#pragma unroll
      for (int tile = 0; tile < kKeys / 8; ++tile) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[tile][i] = ptx::exponential_base_2(scores[tile][i] - largest);
          total[half] += scores[tile][i];
        }
      }
    }
  }
};

/// Keys that are divided among thread blocks, where queries alone make few of them.
struct KeyParts {
  int count;      // 1: not divided
  float* found;   // (rows of 16 queries, count, kPartFloats) in global memory, which the second-level cache holds
  int* counters;  // one for each row of queries, zero before and after
};

/// Of 16 queries: sums, maxima and totals of a warp.
template <int kD> inline constexpr int kPartFloats = 32 * (kD / 2 + 4);

/// Joins what the warps of all parts found for the same queries: each leaves it in global memory, and the last to come adds all, in the
/// order of the keys. True for that one, which then has all of it. `row`: of queries.
template <int kD> __device__ __forceinline__ bool join_parts(RunningSoftmax<kD>& softmax, const KeyParts& parts, int row, int part, int lane) {
  struct alignas(16) Four {
    float of[4];
  };
  const auto found = [&](int of) { return reinterpret_cast<Four*>(parts.found + (int64_t{row} * parts.count + of) * kPartFloats<kD>) + lane; };
  Four* const own = found(part);
  own[0] = Four{{softmax.maximum[0], softmax.maximum[1], softmax.total[0], softmax.total[1]}};
#pragma unroll
  for (int tile = 0; tile < kD / 8; ++tile) {
    const float(&s)[4] = softmax.sums[tile];
    own[32 * (1 + tile)] = Four{{s[0], s[1], s[2], s[3]}};
  }
  ptx::warp_sync();
  int came = 0;
  if (lane == 0) {
    came = ptx::atomic_add(parts.counters + row, 1);
    if (came == parts.count - 1) parts.counters[row] = 0;
  }
  ptx::warp_sync();  // a shuffle orders no memory
  if (ptx::shuffle(came, 0) != parts.count - 1) return false;
  softmax = {};
#pragma unroll 1
  for (int of = 0; of < parts.count; ++of) {
#pragma unroll
    for (int half = 0; half < 2; ++half) softmax.maximum[half] = fmaxf(softmax.maximum[half], found(of)->of[half]);
  }
#pragma unroll 1
  for (int of = 0; of < parts.count; ++of) {
    const Four* const from = found(of);
    const float weights[2] = {ptx::exponential_base_2(from->of[0] - softmax.maximum[0]), ptx::exponential_base_2(from->of[1] - softmax.maximum[1])};
#pragma unroll
    for (int half = 0; half < 2; ++half) softmax.total[half] += weights[half] * from->of[2 + half];
#pragma unroll
    for (int tile = 0; tile < kD / 8; ++tile) {
      const Four sums = from[32 * (1 + tile)];
#pragma unroll
      for (int i = 0; i < 4; ++i) softmax.sums[tile][i] += weights[i / 2] * sums.of[i];
    }
  }
  return true;
}

}  // namespace attention_tiles

}  // namespace usmlite::cuda
