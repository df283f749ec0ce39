// What a log-mel front end computes once: its window, its filters and the factors of its Fourier transform.
#pragma once
#include <cstdint>
#include <vector>

namespace usmlite::audio {

struct LogMelSettings {
  double sample_rate = 16000;   // Hz
  int64_t window_length = 400;  // samples
  int64_t hop_length = 160;     // samples
  int64_t fft_length = 512;     // samples; a power of two, frames are padded with zeros at their end
  int64_t mel_bins = 128;
  double lower_edge = 125;   // Hz
  double upper_edge = 7500;  // Hz
  double floor = 1e-5;       // smallest energy of which the logarithm is taken
};

struct LogMelPlan {
  /// Throws INVALID_ARGUMENT for settings that make no sense together.
  explicit LogMelPlan(const LogMelSettings& settings);

  /// Frames that fit into `samples`: no padding at either end.
  int64_t frames(int64_t samples) const {
    return samples < settings.window_length ? 0 : (samples - settings.window_length) / settings.hop_length + 1;
  }

  LogMelSettings settings;
  std::vector<double> window;  // (window_length), symmetric Hann
  // exp(-2 pi i k / fft_length) for k in 0 .. fft_length / 2
  std::vector<double> cosine, sine;
  // Filter m has weights[begin[m] .. begin[m + 1]) for the spectrum bins from first[m] on.
  std::vector<int32_t> first, begin;
  std::vector<double> weights;
};

}  // namespace usmlite::audio
