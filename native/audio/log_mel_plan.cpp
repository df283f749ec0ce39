#include "audio/log_mel_plan.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <string>

#include "core/error.hpp"

namespace usmlite::audio {
namespace {

// The mel scale of HTK and Kaldi: m = 1127 ln(1 + f / 700).
double mel_of(double hertz) { return 1127.0 * std::log(1.0 + hertz / 700.0); }

void check(const LogMelSettings& s) {
  const auto fail = [](const std::string& sentence) { throw Error(error_code::kInvalidArgument, "log-mel: " + sentence); };
  if (s.fft_length < 8 || !std::has_single_bit(static_cast<uint64_t>(s.fft_length))) {
    fail("the transform length is " + std::to_string(s.fft_length) + "; it must be a power of two from 8");
  }
  if (s.window_length < 2 || s.window_length > s.fft_length) {
    fail("the window length is " + std::to_string(s.window_length) + "; it must be between 2 and the transform length, " +
         std::to_string(s.fft_length));
  }
  if (s.hop_length < 1) fail("the hop length must be at least 1");
  if (s.mel_bins < 1) fail("at least one mel bin is needed");
  if (!(s.lower_edge >= 0 && s.lower_edge < s.upper_edge && s.upper_edge <= s.sample_rate / 2)) {
    fail("the mel filters must lie between 0 and half the sample rate, " + std::to_string(s.sample_rate / 2) + " Hz");
  }
}

}  // namespace

LogMelPlan::LogMelPlan(const LogMelSettings& given) : settings(given) {
  check(settings);
  const double two_pi = 2 * std::numbers::pi;

  window.resize(settings.window_length);
  for (int64_t i = 0; i < settings.window_length; ++i) {
    window[i] = 0.5 - 0.5 * std::cos(two_pi * static_cast<double>(i) / static_cast<double>(settings.window_length - 1));
  }

  const int64_t half = settings.fft_length / 2;
  for (int64_t k = 0; k <= half; ++k) {
    const double angle = two_pi * static_cast<double>(k) / static_cast<double>(settings.fft_length);
    cosine.push_back(std::cos(angle));
    sine.push_back(-std::sin(angle));
  }

  // Triangles with corners evenly spaced in mel; slopes are straight in mel too. The DC bin takes no part.
  const double low = mel_of(settings.lower_edge), high = mel_of(settings.upper_edge);
  const auto edge = [&](int64_t i) { return low + (high - low) * static_cast<double>(i) / static_cast<double>(settings.mel_bins + 1); };
  begin.push_back(0);
  for (int64_t m = 0; m < settings.mel_bins; ++m) {
    const double left = edge(m), centre = edge(m + 1), right = edge(m + 2);
    int32_t first_bin = 0;
    for (int64_t bin = 1; bin <= half; ++bin) {
      const double mel = mel_of(settings.sample_rate / 2 * static_cast<double>(bin) / static_cast<double>(half));
      const double weight = std::min((mel - left) / (centre - left), (right - mel) / (right - centre));
      if (weight <= 0) continue;
      if (first_bin == 0) first_bin = static_cast<int32_t>(bin);
      weights.push_back(weight);
    }
    first.push_back(first_bin);
    begin.push_back(static_cast<int32_t>(weights.size()));
  }
}

}  // namespace usmlite::audio
