#include "audio/log_mel_plan.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "core/error.hpp"

namespace usmlite::audio {
namespace {

// The mel scale of HTK and Kaldi: m = 1127 ln(1 + f / 700).
double mel_of(double hertz) { return 1127.0 * std::log(1.0 + hertz / 700.0); }

// Slaney's: 15 mel at 1000 Hz, straight below, and 27 mel for a factor of 6.4 above.
double slaney_mel_of(double hertz) {
  return hertz < 1000.0 ? hertz * 3.0 / 200.0 : 15.0 + 27.0 * std::log(hertz / 1000.0) / std::log(6.4);
}

double hertz_of_slaney_mel(double mel) {
  return mel < 15.0 ? mel * 200.0 / 3.0 : 1000.0 * std::exp((mel - 15.0) * std::log(6.4) / 27.0);
}

bool has_fast_transform(int64_t length) {
  if (length < 8 || length % 2 != 0) return false;
  while (length % 2 == 0) length /= 2;
  while (length % 5 == 0) length /= 5;
  return length == 1;
}

void check(const LogMelSettings& s) {
  const auto fail = [](const std::string& sentence) { throw Error(error_code::kInvalidArgument, "log-mel: " + sentence); };
  if (!has_fast_transform(s.fft_length)) {
    fail("the transform length is " + std::to_string(s.fft_length) + "; it must be even, from 8, and a product of twos and fives");
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
  const bool periodic = settings.window_shape == WindowShape::kPeriodicHann;
  const double period = static_cast<double>(settings.window_length - (periodic ? 0 : 1));
  for (int64_t i = 0; i < settings.window_length; ++i) {
    const double hann = 0.5 - 0.5 * std::cos(two_pi * static_cast<double>(i) / period);
    window[i] = settings.window_shape == WindowShape::kPovey ? std::pow(hann, 0.85) : hann;
  }

  const int64_t half = settings.fft_length / 2;
  for (int64_t k = 0; k <= half; ++k) {
    const double angle = two_pi * static_cast<double>(k) / static_cast<double>(settings.fft_length);
    cosine.push_back(std::cos(angle));
    sine.push_back(-std::sin(angle));
  }

  // The DC bin takes no part: the first corner lies at 0 Hz or above.
  const bool slaney = settings.mel_scale == MelScale::kSlaney;
  const auto mel = [&](double hertz) { return slaney ? slaney_mel_of(hertz) : mel_of(hertz); };
  const double low = mel(settings.lower_edge), high = mel(settings.upper_edge);
  const auto corner = [&](int64_t i) {
    const double at = low + (high - low) * static_cast<double>(i) / static_cast<double>(settings.mel_bins + 1);
    return slaney ? hertz_of_slaney_mel(at) : at;
  };
  begin.push_back(0);
  for (int64_t m = 0; m < settings.mel_bins; ++m) {
    const double left = corner(m), centre = corner(m + 1), right = corner(m + 2);
    const double height = slaney ? 2.0 / (right - left) : 1.0;
    int32_t first_bin = 0;
    for (int64_t bin = 1; bin <= half; ++bin) {
      const double hertz = settings.sample_rate / 2 * static_cast<double>(bin) / static_cast<double>(half);
      const double at = slaney ? hertz : mel_of(hertz);
      const double weight = height * std::min((at - left) / (centre - left), (right - at) / (right - centre));
      if (weight <= 0) continue;
      if (first_bin == 0) first_bin = static_cast<int32_t>(bin);
      weights.push_back(weight);
    }
    first.push_back(first_bin);
    begin.push_back(static_cast<int32_t>(weights.size()));
  }
}

}  // namespace usmlite::audio
