#include "audio/resample_plan.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace usmlite::audio {
namespace {

// Design in units of the lower of the two rates: flat up to 95 % of its Nyquist frequency, 96 dB down from 100 % on.
// Kaiser's formulas then give beta = 0.1102 (A - 8.7) and (A - 7.95) / (2.285 * 2 pi * 0.025) = 246 taps.
constexpr double kCutoff = 0.975 / 2;  // cycles per sample, the middle of the transition
constexpr double kBeta = 0.1102 * (96 - 8.7);
constexpr double kHalfWidth = 128;
// With more phases than this (fewer where the filter is stretched, and so smoother) rows are interpolated linearly; the
// error of that is below -110 dB.
constexpr double kMaximumPhases = 1024;
constexpr size_t kCachedPlans = 16;

// The modified Bessel function of the first kind, order zero, by its power series.
double bessel_i0(double x) {
  double sum = 1, term = 1;
  for (int k = 1; term > sum * 1e-17; ++k) {
    term *= (x / (2 * k)) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

}  // namespace

ResamplePlan::ResamplePlan(int64_t from_rate, int64_t to_rate) {
  const int64_t divisor = std::gcd(from_rate, to_rate);
  up = to_rate / divisor;
  down = from_rate / divisor;
  const double stretch = std::max(1.0, static_cast<double>(down) / static_cast<double>(up));
  const double width = kHalfWidth * stretch;
  half_width = (static_cast<int64_t>(std::ceil(width)) + 7) / 8 * 8;
  const int64_t maximum_phases = static_cast<int64_t>(std::ceil(kMaximumPhases / stretch));
  exact = up <= maximum_phases;
  phases = exact ? up : maximum_phases;

  const double cutoff = up == down ? 0.5 : kCutoff / stretch;  // half the rate leaves a signal as it is
  const double scale = 1 / bessel_i0(kBeta);
  const int64_t taps = 2 * half_width;
  table.resize((phases + 1) * taps);
  std::vector<double> row(taps);
  for (int64_t p = 0; p <= phases; ++p) {
    double sum = 0;
    for (int64_t i = 0; i < taps; ++i) {
      const double t = static_cast<double>(i - half_width + 1) - static_cast<double>(p) / static_cast<double>(phases);
      const double across = t / width;
      const double angle = 2 * std::numbers::pi * cutoff * t;
      const double sinc = std::abs(angle) < 1e-12 ? 1 : std::sin(angle) / angle;
      row[i] = std::abs(across) >= 1 ? 0 : sinc * bessel_i0(kBeta * std::sqrt(1 - across * across)) * scale;
      sum += row[i];
    }
    // Unit gain at 0 Hz for every phase, or a constant input would come out with a ripple.
    for (int64_t i = 0; i < taps; ++i) table[p * taps + i] = static_cast<float>(row[i] / sum);
  }
}

int64_t ResamplePlan::output_length(int64_t samples) const {
  return static_cast<int64_t>((static_cast<__int128>(samples) * up * 2 + down) / (2 * static_cast<__int128>(down)));
}

std::shared_ptr<const ResamplePlan> resample_plan(int64_t from_rate, int64_t to_rate) {
  for (int64_t rate : {from_rate, to_rate}) {
    if (rate < 1 || rate > 1'000'000) {
      throw Error(error_code::kInvalidArgument, "a sampling rate is " + std::to_string(rate) +
                                                    " Hz; it must be between 1 and 1000000 Hz");
    }
  }
  if (from_rate > 256 * to_rate || to_rate > 256 * from_rate) {
    throw Error(error_code::kInvalidArgument, "cannot resample from " + std::to_string(from_rate) + " to " +
                                                  std::to_string(to_rate) + " Hz: the rates may differ by a factor of 256");
  }
  const int64_t divisor = std::gcd(from_rate, to_rate);
  const std::pair<int64_t, int64_t> ratio{from_rate / divisor, to_rate / divisor};
  static std::mutex mutex;
  static auto* plans = new std::map<std::pair<int64_t, int64_t>, std::shared_ptr<const ResamplePlan>>;
  std::lock_guard lock(mutex);
  auto& plan = (*plans)[ratio];
  if (!plan) {
    auto made = std::make_shared<const ResamplePlan>(from_rate, to_rate);
    if (plans->size() > kCachedPlans) {
      plans->clear();  // rare ratios must not pile up; the usual ones are soon back
    }
    return (*plans)[ratio] = std::move(made);
  }
  return plan;
}

}  // namespace usmlite::audio
