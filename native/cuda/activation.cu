#include "cuda/activation.hpp"

#include "cuda/dropout.cuh"
#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"
#include "cuda/slopes.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kActivationThreads = 256;  // a thread takes 16 bytes

enum class Step : uint8_t { kDropout, kSilu, kSiluBackward, kGelu, kGeluBackward };

struct ActivationArguments {
  const uint16_t *x, *gradient;
  uint16_t* y;
  uint32_t vectors, vectors_per_row;  // of 16 bytes
  int64_t columns;
  Dropout dropout;
};

// All steps make zero of zero, so that what lies between rows stays zero.
template <typename T, Step kStep> __global__ void __launch_bounds__(kActivationThreads) activation_kernel(const ActivationArguments a) {
  ptx::take_turn();
  const uint32_t vector = blockIdx.x * kActivationThreads + threadIdx.x;
  if (vector >= a.vectors) return;
  const int64_t at = static_cast<int64_t>(vector) * kHalvesPerVector;
  float values[kHalvesPerVector];
  load_values<T>(a.x + at, values);
  if constexpr (kStep == Step::kSilu) {
#pragma unroll
    for (float& v : values) v *= sigmoid(v);
  } else if constexpr (kStep == Step::kSiluBackward || kStep == Step::kGeluBackward) {
    float gradient[kHalvesPerVector];
    load_values<T>(a.gradient + at, gradient);
#pragma unroll
    for (int i = 0; i < kHalvesPerVector; ++i)
      values[i] = gradient[i] * (kStep == Step::kGeluBackward ? gelu_slope(values[i]) : silu_slope(values[i]));
  } else if constexpr (kStep == Step::kGelu) {
#pragma unroll
    for (float& v : values) v = activate(Activation::kGelu, v);
  }
  const int64_t row = vector / a.vectors_per_row, column = vector % a.vectors_per_row * kHalvesPerVector;
  apply_dropout(a.dropout, static_cast<uint64_t>(row * a.columns + column), values);
  store_values<T>(a.y + at, values);
}

template <Step kStep>
void launch_activation(const DeviceMatrix& x, const DeviceMatrix* gradient, const Dropout& dropout, const DeviceMatrix& y,
                       const Stream& stream) {
  if (x.is_empty()) return;
  const auto per_row = static_cast<uint32_t>(x.row_stride() / kHalvesPerVector);
  const uint32_t vectors = static_cast<uint32_t>(x.rows()) * per_row;
  const ActivationArguments arguments{x.use_on<uint16_t>(stream), gradient ? gradient->use_on<uint16_t>(stream) : nullptr,
                                      y.use_on<uint16_t>(stream), vectors, per_row, x.columns(), dropout};
  launch(x.type() == DeviceType::kBFloat16 ? activation_kernel<BFloat16, kStep> : activation_kernel<Float16, kStep>,
         LaunchShape{(vectors + kActivationThreads - 1) / kActivationThreads, 1, 1, kActivationThreads, 0, 1, kernels_take_turns()}, stream.handle(),
         arguments);
}

}  // namespace

void apply_dropout(const DeviceMatrix& x, const Dropout& dropout, const DeviceMatrix& y, const Stream& stream) {
  launch_activation<Step::kDropout>(x, nullptr, dropout, y, stream);
}

void silu(const DeviceMatrix& x, const Dropout& dropout, const DeviceMatrix& y, const Stream& stream) {
  launch_activation<Step::kSilu>(x, nullptr, dropout, y, stream);
}

void silu_backward(const DeviceMatrix& x, const DeviceMatrix& gradient, const Dropout& dropout, const DeviceMatrix& gradient_x,
                   const Stream& stream) {
  launch_activation<Step::kSiluBackward>(x, &gradient, dropout, gradient_x, stream);
}

void gelu(const DeviceMatrix& x, const DeviceMatrix& y, const Stream& stream) {
  launch_activation<Step::kGelu>(x, nullptr, Dropout(), y, stream);
}

void gelu_backward(const DeviceMatrix& x, const DeviceMatrix& gradient, const DeviceMatrix& gradient_x, const Stream& stream) {
  launch_activation<Step::kGeluBackward>(x, &gradient, Dropout(), gradient_x, stream);
}

}  // namespace usmlite::cuda
