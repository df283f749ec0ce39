#include "cpu/log_mel.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {

void log_mel(const audio::LogMelPlan& plan, const float* samples, int64_t frames, float* features) {
  const auto& s = plan.settings;
  const int64_t half = s.fft_length / 2;
  std::vector<double> power(half + 1), windowed(s.window_length);
  for (int64_t f = 0; f < frames; ++f) {
    const float* frame = samples + f * s.hop_length;
    double mean = 0;
    if (s.frame_preemphasis) {
      for (int64_t t = 0; t < s.window_length; ++t) mean += frame[t];
      mean /= static_cast<double>(s.window_length);
    }
    const double share = s.frame_preemphasis.value_or(0);
    for (int64_t t = 0; t < s.window_length; ++t) {
      windowed[t] = plan.window[t] * ((frame[t] - mean) - share * (frame[t > 0 ? t - 1 : 0] - mean));
    }
    for (int64_t k = 0; k <= half; ++k) {
      double re = 0, im = 0;
      for (int64_t t = 0; t < s.window_length; ++t) {
        const double x = windowed[t];
        // The table ends at half a turn; the other half is its mirror image.
        const int64_t turn = k * t % s.fft_length;
        re += x * plan.cosine[turn <= half ? turn : s.fft_length - turn];
        im += turn <= half ? x * plan.sine[turn] : -x * plan.sine[s.fft_length - turn];
      }
      power[k] = re * re + im * im;
    }
    for (int64_t m = 0; m < s.mel_bins; ++m) {
      double energy = 0;
      for (int32_t i = plan.begin[m]; i < plan.begin[m + 1]; ++i) {
        energy += plan.weights[i] * power[plan.first[m] + i - plan.begin[m]];
      }
      const bool added = s.energy_floor == audio::EnergyFloor::kAdded;
      features[f * s.mel_bins + m] = static_cast<float>(std::log(added ? energy + s.floor : std::max(energy, s.floor)));
    }
  }
}

}  // namespace usmlite::cpu::reference
