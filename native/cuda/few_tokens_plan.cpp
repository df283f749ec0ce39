#include "cuda/few_tokens_plan.hpp"

#include <algorithm>

#include "cuda/few_tokens_layout.hpp"

namespace usmlite::cuda {

namespace {

// A model of the time that a plan takes, in nanoseconds; bandwidths in bytes per nanosecond. The constants are an H100's:
// other GPUs have the same proportions nearly enough for the order of the few candidates.
constexpr double kMemoryBandwidth = 3000.0;
constexpr double kCacheBandwidth = 5500.0;         // of the second-level cache, all multiprocessors together
constexpr double kMultiprocessorBandwidth = 26.0;  // one, however few are at work
constexpr double kChunkLatency = 120.0;            // of a team, between barriers
constexpr double kInstructionsPerTime = 3.6;       // warps' instructions on a multiprocessor, sustained
constexpr double kSharingTime = 2500.0;            // leaving partial sums,
constexpr double kPartTime = 150.0;                // and adding those of each part
constexpr double kSegmentTime = 2000.0;            // ending a band and filling the ring once more
constexpr int kNominalTokens = 16;                 // of activations that are read with each band

/// Instructions of a warp that make a fragment (four registers) of codes.
constexpr int fragment_instructions(Codes codes, Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::kInt8) return codes == Codes::kInt4 ? 6 : 0;
  switch (codes) {
    case Codes::kFloat16Bit: case Codes::kFloat8: return 0;
    case Codes::kInt8: return 14;
    case Codes::kUint8: return 22;
    case Codes::kInt4: return 11;
    case Codes::kUint4: return 15;
    case Codes::kInt3: return 20;
    case Codes::kInt2: return 12;
    case Codes::kUint2: return 16;
    case Codes::kInt1: return 8;
    case Codes::kNormalFloat4: return 25;
  }
  return 0;
}

double expected_time(const WeightView& w, const FewTokensPlan& plan, int multiprocessors) {
  const double weight_bytes =  // of a band's chunk
      plan.band_blocks * (chunk_code_bytes(w.codes, w.sparse) + chunk_metadata_bytes(w.sparse) +
                          (w.group_size ? 128.0 * rows_per_group(w.codes) * chunk_inputs(w.codes, w.sparse) / w.group_size : 0.0));
  const double x_bytes = kNominalTokens * chunk_row_bytes(w.codes, w.arithmetic, w.sparse);
  const int64_t units = int64_t{plan.bands} * plan.chunks;
  const int64_t most_units = (units + plan.thread_blocks - 1) / plan.thread_blocks;
  const int waves = (plan.thread_blocks + multiprocessors - 1) / multiprocessors;
  const double scale = multiprocessors / 132.0;
  const double memory = units * weight_bytes / (kMemoryBandwidth * scale);
  const double cache = units * (weight_bytes + x_bytes) / (kCacheBandwidth * scale);
  const double fair_share = kMemoryBandwidth / 132.0;  // of a multiprocessor when all are at work
  const double active = std::min(1.0, static_cast<double>(plan.thread_blocks) / multiprocessors);
  const double rate = std::min(kMultiprocessorBandwidth, fair_share / active);
  const int steps = element_bytes(w.arithmetic) == 2 ? 4 : 2;
  const double instructions = slices_per_chunk(w.codes, w.sparse) * plan.band_blocks *
                              (4.0 * steps * (fragment_instructions(w.codes, w.arithmetic) + 4) + 120.0);
  const double busiest = waves * std::max({most_units * weight_bytes / rate, most_units * instructions / kInstructionsPerTime,
                                           kChunkLatency * ((most_units + plan.teams - 1) / plan.teams)});
  double more = (waves - 1) * kSegmentTime;
  if (shares_bands(plan)) {
    more += kSharingTime + kPartTime * (1.0 + static_cast<double>(plan.thread_blocks) / plan.bands);
    // Parts that are not equal cross from one band to the next.
    const bool equal = units % plan.thread_blocks == 0 && plan.chunks % most_units == 0;
    if (!equal) more += kSegmentTime * (1.0 + static_cast<double>(most_units / plan.chunks));
  }
  return std::max({memory, cache, busiest}) + more;
}

}  // namespace

std::vector<FewTokensPlan> few_tokens_plans(const WeightView& weight, int multiprocessors, size_t shared_bytes, bool may_share) {
  std::vector<FewTokensPlan> plans;
  for (const int band_blocks : {4, 2, 1}) {
    FewTokensPlan plan{};
    plan.band_blocks = band_blocks;
    plan.teams = few_tokens_threads(weight.arithmetic) / (64 * band_blocks);
    plan.shared_bytes = shared_bytes;
    const auto fits = [&] { return few_tokens_shared_bytes(weight, plan, kMostFewTokens, kFewestStages) <= shared_bytes; };
    while (plan.teams > 1 && !fits()) --plan.teams;
    if (!fits()) continue;
    plan.bands = (weight.blocks + band_blocks - 1) / band_blocks;
    plan.chunks = (weight.slices + slices_per_chunk(weight.codes, weight.sparse) - 1) / slices_per_chunk(weight.codes, weight.sparse);
    plan.parts = 1;
    plan.spread_over(plan.bands);  // each its own band
    plans.push_back(plan);
    if (!may_share) continue;
    const int64_t units = int64_t{plan.bands} * plan.chunks;
    for (int parts = 2; int64_t{plan.bands} * parts <= multiprocessors && parts <= plan.chunks; ++parts) {
      if (plan.chunks % parts) continue;  // equal parts only: these end with the band
      plan.parts = parts;
      plan.spread_over(plan.bands * parts);
      plans.push_back(plan);
    }
    if (units >= multiprocessors) {
      plan.parts = 0;
      plan.spread_over(multiprocessors);
      plans.push_back(plan);
    }
  }
  std::vector<double> times;
  for (const FewTokensPlan& plan : plans) times.push_back(expected_time(weight, plan, multiprocessors));
  if (!plans.empty()) std::iter_swap(plans.begin(), plans.begin() + (std::min_element(times.begin(), times.end()) - times.begin()));
  return plans;
}

FewTokensPlan plan_few_tokens(const WeightView& weight, int multiprocessors, size_t shared_bytes, bool may_share) {
  const std::vector<FewTokensPlan> plans = few_tokens_plans(weight, multiprocessors, shared_bytes, may_share);
  return plans.empty() ? FewTokensPlan{} : plans[0];
}

}  // namespace usmlite::cuda
