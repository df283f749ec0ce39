// What a log-mel front end computes once: its window, its filters and the factors of its Fourier transform.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace usmlite::audio {

/// Where the corners of the filters lie: evenly spaced on the scale of HTK and Kaldi, straight on it too and 1 high; or on that of
/// Slaney's Auditory Toolbox, straight in Hz and of equal area, as in librosa.
enum class MelScale { kHtk, kSlaney };
/// Hann's symmetric: the last sample equals the first. Periodic: the one after the last would. Povey: Kaldi's, the symmetric one to the
/// power 0.85.
enum class WindowShape { kSymmetricHann, kPeriodicHann, kPovey };
/// What keeps the logarithm finite: a smallest energy, or a number added to every energy.
enum class EnergyFloor { kSmallest, kAdded };

struct LogMelSettings {
  double sample_rate = 16000;   // Hz
  int64_t window_length = 400;  // samples
  int64_t hop_length = 160;     // samples
  int64_t fft_length = 512;     // samples; 2^a 5^b and even, frames are padded with zeros at their end
  int64_t mel_bins = 128;
  double lower_edge = 125;   // Hz
  double upper_edge = 7500;  // Hz
  double floor = 1e-5;       // of the energies
  MelScale mel_scale = MelScale::kHtk;
  WindowShape window_shape = WindowShape::kSymmetricHann;
  EnergyFloor energy_floor = EnergyFloor::kSmallest;
  // Before the window Kaldi takes the mean of its samples off each frame, and then this share of the sample before off each sample, the
  // first being its own predecessor. Absent: frames stay as they are.
  std::optional<double> frame_preemphasis;
};

struct LogMelPlan {
  /// Throws INVALID_ARGUMENT for settings that make no sense together.
  explicit LogMelPlan(const LogMelSettings& settings);

  /// Frames that fit into `samples`: no padding at either end.
  int64_t frames(int64_t samples) const {
    return samples < settings.window_length ? 0 : (samples - settings.window_length) / settings.hop_length + 1;
  }

  LogMelSettings settings;
  std::vector<double> window;  // (window_length)
  // exp(-2 pi i k / fft_length) for k in 0 .. fft_length / 2
  std::vector<double> cosine, sine;
  // Filter m has weights[begin[m] .. begin[m + 1]) for the spectrum bins from first[m] on.
  std::vector<int32_t> first, begin;
  std::vector<double> weights;
};

}  // namespace usmlite::audio
