#include "cuda/token_choice.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"
#include "cuda/row_values.cuh"

namespace usmlite::cuda {
namespace {

// A block takes a row, whose vocabulary may be long: it is read twice, and once more for each token that is chosen.
constexpr int kTokenChoiceWarps = 8, kTokenChoiceThreads = 32 * kTokenChoiceWarps, kTokensAtOnce = kTokenChoiceThreads * kHalvesPerVector;
constexpr int kKinds = 3;  // of tokens that are added up: all, those that may come before `together`, and those from there on

struct ChoiceOperands {
  const uint16_t* scores;
  int64_t stride;
  const float* bias;
  int64_t bias_stride;
  const cpu::TokenRules* rules;
  float* choices;
  int64_t choice_stride;
  int vocabulary, count;
};

__device__ __forceinline__ float never() { return ptx::float_of(0xff800000u); }  // negative infinity

struct Candidate {
  float score;
  int token;
  __device__ __forceinline__ bool is_before(const Candidate& other) const {
    return score > other.score || (score == other.score && token < other.token);
  }
};

/// The first of what all threads of the block have; `of_warps`: kTokenChoiceWarps candidates in shared memory, free again after the next block_sync.
__device__ Candidate first_of_block(Candidate mine, Candidate* of_warps) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const Candidate other{ptx::shuffle_xor(mine.score, distance), ptx::shuffle_xor(mine.token, distance)};
    if (other.is_before(mine)) mine = other;
  }
  if (ptx::lane_id() == 0) of_warps[ptx::warp_id()] = mine;
  ptx::block_sync();
  Candidate first = of_warps[0];
  for (int i = 1; i < kTokenChoiceWarps; ++i) {
    if (of_warps[i].is_before(first)) first = of_warps[i];
  }
  return first;
}

template <typename T> __global__ void __launch_bounds__(kTokenChoiceThreads) choose_tokens_kernel(const ChoiceOperands a) {
  ptx::take_turn();
  const int64_t row = blockIdx.x;
  const uint16_t* scores = a.scores + row * a.stride;
  const cpu::TokenRules rules = a.rules[row];
  const float* bias = a.bias + rules.bias * a.bias_stride;
  const auto for_each_token = [&](auto&& take) {  // take(token, its score, the same or minus infinity if it may not come)
    for (int first = static_cast<int>(threadIdx.x) * kHalvesPerVector; first < a.vocabulary; first += kTokensAtOnce) {
      float values[kHalvesPerVector];
      load_values<T>(scores + first, values);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) {
        const int token = first + i;
        if (token >= a.vocabulary) continue;
        const bool forbidden = (token >= rules.forbidden[0][0] && token < rules.forbidden[0][1]) ||
                               (token >= rules.forbidden[1][0] && token < rules.forbidden[1][1]);
        take(token, values[i], forbidden ? never() : values[i] + bias[token]);
      }
    }
  };
  auto* of_warps = reinterpret_cast<float*>(shared_memory());
  float largest[kKinds] = {never(), never(), never()};
  for_each_token([&](int token, float score, float allowed) {
    largest[0] = fmaxf(largest[0], score);
    float& of_kind = token < rules.together ? largest[1] : largest[2];
    of_kind = fmaxf(of_kind, allowed);
  });
#pragma unroll
  for (int kind = 0; kind < kKinds; ++kind)
    largest[kind] = block_reduce<kTokenChoiceWarps>(largest[kind], of_warps + kind * kTokenChoiceWarps, Larger{});
  float sums[kKinds] = {};
  for_each_token([&](int token, float score, float allowed) {
    sums[0] += exponential(score - largest[0]);
    if (allowed == never()) return;
    if (token < rules.together) {
      sums[1] += exponential(allowed - largest[1]);
    } else {
      sums[2] += exponential(allowed - largest[2]);
    }
  });
  block_sums<kTokenChoiceWarps>(sums, of_warps + kKinds * kTokenChoiceWarps);
  float totals[kKinds];
#pragma unroll
  for (int kind = 0; kind < kKinds; ++kind) totals[kind] = sums[kind] == 0.0f ? never() : largest[kind] + logarithm(sums[kind]);
  const bool comes_alone = totals[2] > largest[1], are_numbers = totals[0] == totals[0];
  const float high = fmaxf(totals[1], totals[2]), low = fminf(totals[1], totals[2]);
  const float of_allowed = comes_alone ? totals[2] : high == never() ? high : high + logarithm(1.0f + exponential(low - high));
  auto* candidates = reinterpret_cast<Candidate*>(of_warps + 2 * kKinds * kTokenChoiceWarps);
  Candidate last{-never(), -1};
  for (int place = 0; place < a.count; ++place) {
    Candidate best{never(), a.vocabulary};
    for_each_token([&](int token, float, float allowed) {
      const Candidate candidate{allowed, token};
      const bool counts = are_numbers && (token >= rules.together || !comes_alone) && last.is_before(candidate);
      if (counts && candidate.is_before(best)) best = candidate;
    });
    last = first_of_block(best, candidates + (place & 1) * kTokenChoiceWarps);
    if (threadIdx.x != 0) continue;
    const bool exists = last.score != never();
    float* choice = a.choices + row * a.choice_stride + place * cpu::kTokenChoiceNumbers;
    choice[0] = exists ? static_cast<float>(last.token) : -1.0f;
    choice[1] = (exists ? last.score : 0.0f) - totals[0];
    choice[2] = (exists ? last.score : 0.0f) - of_allowed;
  }
}

}  // namespace

void choose_tokens(const TokenChoiceArguments& a, const Stream& stream) {
  const int64_t rows = a.scores->rows();
  if (rows == 0) return;
  const ChoiceOperands arguments{a.scores->use_on<uint16_t>(stream),
                                  a.scores->row_stride(),
                                  a.bias->use_on<float>(stream),
                                  a.bias->row_stride(),
                                  reinterpret_cast<const cpu::TokenRules*>(a.rules.rows),
                                  a.choices->use_on<float>(stream),
                                  a.choices->row_stride(),
                                  static_cast<int>(a.scores->columns()),
                                  a.count};
  const size_t shared = 2 * kKinds * kTokenChoiceWarps * sizeof(float) + 2 * kTokenChoiceWarps * sizeof(Candidate);
  launch(a.scores->type() == DeviceType::kBFloat16 ? choose_tokens_kernel<BFloat16> : choose_tokens_kernel<Float16>,
         LaunchShape{static_cast<unsigned>(rows), 1, 1, kTokenChoiceThreads, shared, 1, kernels_take_turns()}, stream.handle(), arguments);
}

}  // namespace usmlite::cuda
