// The filter of a change of sampling rate: a Kaiser-windowed sinc, tabulated for every position between two samples.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace usmlite::audio {

/// Output sample j lies at input time j * down / up. With i = floor of it and phase = the rest,
///   output[j] = sum over k in -half_width < k <= half_width of input[i + k] * h(k - phase).
struct ResamplePlan {
  ResamplePlan(int64_t from_rate, int64_t to_rate);

  /// round(samples * up / down)
  int64_t output_length(int64_t samples) const;
  /// Index of the input sample at or before output sample j.
  int64_t input_index(int64_t j) const { return static_cast<int64_t>(static_cast<__int128>(j) * down / up); }

  int64_t up, down;      // the ratio of the rates in lowest terms
  int64_t half_width;    // input samples on either side; a multiple of 8
  int64_t phases;        // rows of the table less one
  bool exact;            // phases == up; otherwise neighbouring rows are interpolated
  std::vector<float> table;  // (phases + 1, 2 * half_width): row p is h(k - p / phases)
};

/// The plan for two rates, shared by all who ask. Throws INVALID_ARGUMENT for rates outside 1 .. 1,000,000 Hz or more
/// than a factor of 256 apart.
std::shared_ptr<const ResamplePlan> resample_plan(int64_t from_rate, int64_t to_rate);

}  // namespace usmlite::audio
