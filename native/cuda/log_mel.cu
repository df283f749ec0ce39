// A warp takes a frame: window, Fourier transform in shared memory, power, filters, logarithm. The steps are those of cpu/log_mel.cpp.
#include "cuda/log_mel_kernels.hpp"

#include <cmath>

#include "cuda/block_reduction.cuh"
#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

struct Complex {
  double re, im;
};
__device__ __forceinline__ Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
__device__ __forceinline__ Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
__device__ __forceinline__ Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
/// -i a
__device__ __forceinline__ Complex turned_back(Complex a) { return {a.im, -a.re}; }

/// exp(-2 pi i k / (2 half)) for k from 0 to 2 half - 1; the table ends in the middle.
__device__ __forceinline__ Complex twiddle(const LogMelArguments& a, int k) {
  return k <= a.half ? Complex{a.cosine[k], a.sine[k]} : Complex{a.cosine[2 * a.half - k], -a.sine[2 * a.half - k]};
}

/// A step of Stockham's transform: y gets, turned, the transforms of every (n / kRadix)th of x.
template <int kRadix> __device__ __forceinline__ void step(const LogMelArguments& a, int part, int stride, const Complex* x, Complex* y, int lane) {
  for (int i = lane; i < part * stride; i += 32) {
    const int p = i / stride, q = i % stride, k = 2 * p * stride, distance = stride * part;
    const Complex* from = x + i;  // q + stride * p
    Complex* to = y + q + stride * kRadix * p;
    if constexpr (kRadix == 5) {
      constexpr double kCos1 = 0.30901699437494742, kCos2 = -0.80901699437494742;  // of a fifth and two fifths of a turn
      constexpr double kSin1 = 0.95105651629515357, kSin2 = 0.58778525229247313;
      const Complex first = from[0];
      const Complex sum1 = from[distance] + from[4 * distance], difference1 = from[distance] - from[4 * distance];
      const Complex sum2 = from[2 * distance] + from[3 * distance], difference2 = from[2 * distance] - from[3 * distance];
      const Complex even1{first.re + kCos1 * sum1.re + kCos2 * sum2.re, first.im + kCos1 * sum1.im + kCos2 * sum2.im};
      const Complex even2{first.re + kCos2 * sum1.re + kCos1 * sum2.re, first.im + kCos2 * sum1.im + kCos1 * sum2.im};
      const Complex odd1 = turned_back({kSin1 * difference1.re + kSin2 * difference2.re, kSin1 * difference1.im + kSin2 * difference2.im});
      const Complex odd2 = turned_back({kSin2 * difference1.re - kSin1 * difference2.re, kSin2 * difference1.im - kSin1 * difference2.im});
      to[0] = first + sum1 + sum2;
      to[stride] = (even1 + odd1) * twiddle(a, k);
      to[2 * stride] = (even2 + odd2) * twiddle(a, 2 * k);
      to[3 * stride] = (even2 - odd2) * twiddle(a, 3 * k);
      to[4 * stride] = (even1 - odd1) * twiddle(a, 4 * k);
    } else if constexpr (kRadix == 4) {
      const Complex sum_ac = from[0] + from[2 * distance], difference_ac = from[0] - from[2 * distance];
      const Complex sum_bd = from[distance] + from[3 * distance], odd = turned_back(from[distance] - from[3 * distance]);
      to[0] = sum_ac + sum_bd;
      to[stride] = (difference_ac + odd) * twiddle(a, k);
      to[2 * stride] = (sum_ac - sum_bd) * twiddle(a, 2 * k);
      to[3 * stride] = (difference_ac - odd) * twiddle(a, 3 * k);
    } else {
      to[0] = from[0] + from[distance];
      to[stride] = from[0] - from[distance];
    }
  }
  ptx::warp_sync();
}

/// Sample `place` of an utterance, after pre-emphasis, rounded to float32 as on the CPU.
__device__ __forceinline__ double sample(const LogMelArguments& a, const float* samples, int count, int place) {
  if (a.mirrored_window > 0) {
    place = max(place, -place);
    place = min(place, 2 * (a.mirrored_window - 1) - place);
    count = min(count, a.mirrored_window);
  }
  if (place < 0 || place >= count) return 0.0;
  const double value = static_cast<double>(samples[place]) * a.full_scale;
  if (place == 0 || a.preemphasis == 0.0) return value;
  return static_cast<double>(static_cast<float>(value - a.preemphasis * (static_cast<double>(samples[place - 1]) * a.full_scale)));
}

__global__ void __launch_bounds__(32 * kWarpsPerBlock) log_mel_kernel(const LogMelArguments a) {
  ptx::take_turn();
  const int sequence = static_cast<int>(blockIdx.y), warp = ptx::warp_id(), lane = ptx::lane_id();
  const int frame = static_cast<int>(row_of_warp());
  if (frame >= a.frame_offsets[sequence + 1] - a.frame_offsets[sequence]) return;
  Complex* x = reinterpret_cast<Complex*>(shared_memory()) + warp * 2 * a.half;
  Complex* y = x + a.half;

  const float* samples = a.samples + a.sample_offsets[sequence];
  const int count = a.sample_offsets[sequence + 1] - a.sample_offsets[sequence], begin = frame * a.hop - a.before;
  const auto at = [&](int t) { return sample(a, samples, count, begin + t); };
  double mean = 0.0;
  if (a.centred_frames) {
    for (int t = lane; t < a.window_length; t += 32) mean += at(t);
    mean = warp_reduce(mean, Sum{}) / a.window_length;
  }
  // Kaldi's pre-emphasis is within the frame, whose first sample is its own predecessor.
  const auto windowed = [&](int t) {
    if (t >= a.window_length) return 0.0;
    const double value = at(t) - mean;
    return a.window[t] * (a.frame_preemphasis == 0.0 ? value : value - a.frame_preemphasis * (at(max(t - 1, 0)) - mean));
  };
  // Sample 2 t is a real part, 2 t + 1 an imaginary one.
  for (int t = lane; t < a.half; t += 32) x[t] = {windowed(2 * t), windowed(2 * t + 1)};
  ptx::warp_sync();

  int n = a.half, stride = 1;
  const auto swap = [&] {
    Complex* const z = x;
    x = y;
    y = z;
  };
  for (; n % 5 == 0; n /= 5, stride *= 5) step<5>(a, n / 5, stride, x, y, lane), swap();
  for (; n >= 4; n /= 4, stride *= 4) step<4>(a, n / 4, stride, x, y, lane), swap();
  if (n == 2) step<2>(a, 1, stride, x, y, lane), swap();

  // |X[k]|^2 of the real signal: X[k] = (Z[k] + Z*[half - k]) / 2 - i exp(-2 pi i k / 2 half) (Z[k] - Z*[half - k]) / 2
  double* power = reinterpret_cast<double*>(y);
  for (int k = lane; k <= a.half; k += 32) {
    const Complex z = x[k == a.half ? 0 : k], mirrored = x[k == 0 ? 0 : a.half - k], conjugate{mirrored.re, -mirrored.im};
    const Complex doubled = (z + conjugate) + turned_back(z - conjugate) * twiddle(a, k);
    power[k] = (doubled.re * doubled.re + doubled.im * doubled.im) * 0.25;
  }
  ptx::warp_sync();
  float* features = a.features + (a.frame_offsets[sequence] + frame) * a.stride;
  for (int m = lane; m < a.bins; m += 32) {
    const int first = a.weight_offsets[m], last = a.weight_offsets[m + 1];
    const double* bins = power + a.first_bin[m];
    double energy = 0.0;
    for (int i = first; i < last; ++i) energy += a.weights[i] * bins[i - first];
    features[m] = static_cast<float>(log(a.added_floor ? energy + a.floor : energy < a.floor ? a.floor : energy));
  }
}

}  // namespace

size_t log_mel_shared_bytes(int64_t fft_length) { return kWarpsPerBlock * static_cast<size_t>(fft_length) * sizeof(Complex); }

void log_mel(const LogMelArguments& arguments, const PackedSequences& sequences, StreamHandle stream) {
  launch(log_mel_kernel,
         LaunchShape{blocks_of_warps(sequences.longest), static_cast<unsigned>(sequences.count), 1, 32 * kWarpsPerBlock,
                     log_mel_shared_bytes(2 * arguments.half), 1, kernels_take_turns()},
         stream, arguments);
}

}  // namespace usmlite::cuda
