// Several frames are transformed at once, one per vector lane, so no step of the Fourier transform shuffles lanes and a
// frame's features do not depend on its neighbours.
#include "cpu/log_mel.hpp"

#include <algorithm>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kDoubles = 8;
#else
constexpr int64_t kDoubles = 4;
#endif
typedef double Doubles __attribute__((vector_size(8 * kDoubles)));

typedef uint64_t Words __attribute__((vector_size(8 * kDoubles)));

// ln x of positive normal numbers, to 1e-9; infinity and NaN stay what they are. With x = 2^e m, m in sqrt(1/2)..sqrt(2),
// and s = (m - 1) / (m + 1): ln x = e ln 2 + 2 (s + s^3 / 3 + s^5 / 5 + ..).
inline Doubles logarithm(Doubles x) {
  constexpr uint64_t kOne = 0x3FF0000000000000, kRootHalf = 0x3FE6A09E667F3BCD, kMantissa = 0x000FFFFFFFFFFFFF;
  constexpr uint64_t kTwo52 = 0x4330000000000000;  // 2^52, whose mantissa is a whole number
  const Words bits = (Words)x + (kOne - kRootHalf);
  const Doubles exponent = (Doubles)((bits >> 52) + kTwo52) - (0x1p52 + 1023.0);
  const Doubles m = (Doubles)((bits & kMantissa) + kRootHalf);
  const Doubles s = (m - 1.0) / (m + 1.0), t = s * s;
  const Doubles series = 2.0 * s * (1.0 + t * (1.0 / 3 + t * (1.0 / 5 + t * (1.0 / 7 + t * (1.0 / 9)))));
  return x - x == 0.0 ? exponent * 0.69314718055994531 + series : x;
}

struct Complex {
  Doubles re, im;
};

inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
// a times the scalar (re, im)
inline Complex turned(Complex a, double re, double im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

// exp(-2 pi i k / fft_length) for any k below fft_length.
struct Twiddles {
  const audio::LogMelPlan& plan;
  double re(int64_t k) const { return k <= half() ? plan.cosine[k] : plan.cosine[2 * half() - k]; }
  double im(int64_t k) const { return k <= half() ? plan.sine[k] : -plan.sine[2 * half() - k]; }
  int64_t half() const { return plan.settings.fft_length / 2; }
};

// One step of radix 5: y gets the transforms of every fifth value of x. `turn` takes an index to the table.
void fifths(const Twiddles& twiddles, int64_t turn, int64_t fifth, int64_t stride, const Complex* x, Complex* y) {
  constexpr double kCos1 = 0.30901699437494742, kCos2 = -0.80901699437494742;  // of a fifth and two fifths of a turn
  constexpr double kSin1 = 0.95105651629515357, kSin2 = 0.58778525229247313;
  for (int64_t p = 0; p < fifth; ++p) {
    const int64_t k = turn * p;
    for (int64_t q = 0; q < stride; ++q) {
      const Complex* from = x + q + stride * p;
      const int64_t step = stride * fifth;
      const Complex a = from[0];
      const Complex sum1 = from[step] + from[4 * step], difference1 = from[step] - from[4 * step];
      const Complex sum2 = from[2 * step] + from[3 * step], difference2 = from[2 * step] - from[3 * step];
      const Complex even1 = {a.re + kCos1 * sum1.re + kCos2 * sum2.re, a.im + kCos1 * sum1.im + kCos2 * sum2.im};
      const Complex even2 = {a.re + kCos2 * sum1.re + kCos1 * sum2.re, a.im + kCos2 * sum1.im + kCos1 * sum2.im};
      // -i times the odd parts
      const Complex odd1 = {kSin1 * difference1.im + kSin2 * difference2.im, -kSin1 * difference1.re - kSin2 * difference2.re};
      const Complex odd2 = {kSin2 * difference1.im - kSin1 * difference2.im, -kSin2 * difference1.re + kSin1 * difference2.re};
      Complex* to = y + q + stride * 5 * p;
      to[0] = a + sum1 + sum2;
      to[stride] = turned(even1 + odd1, twiddles.re(k), twiddles.im(k));
      to[2 * stride] = turned(even2 + odd2, twiddles.re(2 * k), twiddles.im(2 * k));
      to[3 * stride] = turned(even2 - odd2, twiddles.re(3 * k), twiddles.im(3 * k));
      to[4 * stride] = turned(even1 - odd1, twiddles.re(4 * k), twiddles.im(4 * k));
    }
  }
}

// Stockham's self-sorting transform of `length` complex values, radix 5 and 4 with one radix-2 step where needed (Van Loan,
// Computational Frameworks for the Fast Fourier Transform, 1992). Returns whichever buffer holds the result.
Complex* transform(const Twiddles& twiddles, int64_t length, Complex* x, Complex* y) {
  const int64_t turn = 2;  // the table is for twice this length
  int64_t stride = 1;
  int64_t n = length;
  for (; n % 5 == 0; n /= 5, stride *= 5) {
    fifths(twiddles, turn * stride, n / 5, stride, x, y);
    std::swap(x, y);
  }
  for (; n >= 4; n /= 4, stride *= 4) {
    const int64_t quarter = n / 4;
    for (int64_t p = 0; p < quarter; ++p) {
      const int64_t k = turn * p * stride;
      const double re1 = twiddles.re(k), im1 = twiddles.im(k);
      const double re2 = twiddles.re(2 * k), im2 = twiddles.im(2 * k);
      const double re3 = twiddles.re(3 * k), im3 = twiddles.im(3 * k);
      for (int64_t q = 0; q < stride; ++q) {
        const Complex* from = x + q + stride * p;
        const Complex a = from[0], b = from[stride * quarter], c = from[2 * stride * quarter], d = from[3 * stride * quarter];
        const Complex sum_ac = a + c, difference_ac = a - c, sum_bd = b + d, difference_bd = b - d;
        const Complex i_difference = {-difference_bd.im, difference_bd.re};
        Complex* to = y + q + stride * 4 * p;
        to[0] = sum_ac + sum_bd;
        to[stride] = turned(difference_ac - i_difference, re1, im1);
        to[2 * stride] = turned(sum_ac - sum_bd, re2, im2);
        to[3 * stride] = turned(difference_ac + i_difference, re3, im3);
      }
    }
    std::swap(x, y);
  }
  if (n == 2) {
    for (int64_t q = 0; q < stride; ++q) {
      const Complex a = x[q], b = x[q + stride];
      y[q] = a + b;
      y[q + stride] = a - b;
    }
    std::swap(x, y);
  }
  return x;
}

// power[k] = |X[k]|^2 of the real signal whose even and odd samples are the real and imaginary parts of what z is the
// transform of: X[k] = (Z[k] + Z*[n-k]) / 2 - i exp(-2 pi i k / 2n) (Z[k] - Z*[n-k]) / 2.
void real_power(const Twiddles& twiddles, const Complex* z, int64_t n, Doubles* power) {
  for (int64_t k = 0; k <= n; ++k) {
    const Complex a = z[k == n ? 0 : k];
    const Complex mirrored = z[k == 0 ? 0 : n - k];
    const Complex b = {mirrored.re, -mirrored.im};
    const Complex even = a + b;
    const Complex difference = a - b;
    const Complex odd = turned({difference.im, -difference.re}, twiddles.re(k), twiddles.im(k));
    const Complex doubled = even + odd;
    power[k] = (doubled.re * doubled.re + doubled.im * doubled.im) * 0.25;
  }
}

// Kaldi's frame, windowed: without its mean, and each sample without a share of the one before.
void emphasized(const audio::LogMelPlan& plan, const float* from, int64_t lane, double* packed) {
  const int64_t length = plan.settings.window_length;
  const double share = *plan.settings.frame_preemphasis;
  double mean = 0;
  for (int64_t t = 0; t < length; ++t) mean += from[t];
  mean /= static_cast<double>(length);
  double before = from[0] - mean;
  for (int64_t t = 0; t < length; ++t) {
    const double centred = from[t] - mean;
    packed[t * kDoubles + lane] = plan.window[t] * (centred - share * before);
    before = centred;
  }
}

}  // namespace

void log_mel(const audio::LogMelPlan& plan, const float* samples, int64_t frames, float* features) {
  const auto& s = plan.settings;
  const int64_t half = s.fft_length / 2;
  const bool added = s.energy_floor == audio::EnergyFloor::kAdded;
  const Twiddles twiddles{plan};
  const int64_t groups = (frames + kDoubles - 1) / kDoubles;
  parallel_for(groups, 8, [&](int64_t first_group, int64_t last_group) {
    Scratch<Complex> buffers(2 * half);
    Scratch<Doubles> power(half + 1);
    for (int64_t group = first_group; group < last_group; ++group) {
      const int64_t frame = group * kDoubles;
      const int64_t lanes = std::min(kDoubles, frames - frame);
      // Sample 2t of each frame is a real part, 2t + 1 an imaginary one. Spare lanes repeat the last frame.
      double* packed = reinterpret_cast<double*>(buffers.data());
      for (int64_t lane = 0; lane < kDoubles; ++lane) {
        const float* from = samples + (frame + std::min(lane, lanes - 1)) * s.hop_length;
        if (s.frame_preemphasis) {
          emphasized(plan, from, lane, packed);
        } else {
          for (int64_t t = 0; t < s.window_length; ++t) packed[t * kDoubles + lane] = plan.window[t] * from[t];
        }
      }
      std::fill(packed + s.window_length * kDoubles, packed + s.fft_length * kDoubles, 0.0);
      const Complex* spectrum = transform(twiddles, half, buffers.data(), buffers.data() + half);
      real_power(twiddles, spectrum, half, power.data());
      for (int64_t m = 0; m < s.mel_bins; ++m) {
        Doubles energy = {};
        const Doubles* bins = power.data() + plan.first[m] - plan.begin[m];
        for (int32_t i = plan.begin[m]; i < plan.begin[m + 1]; ++i) energy += plan.weights[i] * bins[i];
        const Doubles logs = logarithm(added ? energy + s.floor : energy < s.floor ? s.floor + Doubles{} : energy);
        for (int64_t lane = 0; lane < lanes; ++lane) features[(frame + lane) * s.mel_bins + m] = static_cast<float>(logs[lane]);
      }
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
