#include "cuda/linear_finish.hpp"

#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

void linear_gradient(const LinearFinish& layer, const DeviceMatrix& gradient, const DeviceMatrix* sums, const DeviceMatrix* sum_gradient,
                     const DeviceMatrix* bias_gradient, const Stream& stream) {
  if (gradient.is_empty()) {
    if (bias_gradient && bias_gradient->columns() > 0) {
      driver::fill(bias_gradient->use_on<uint8_t>(stream), 0, static_cast<size_t>(bias_gradient->row_stride()) * sizeof(float), stream.handle());
    }
    return;
  }
  if (!bias_gradient) return linear_gradient(layer, gradient, sums, sum_gradient, nullptr, nullptr, stream);
  const int64_t parts = linear_row_blocks(gradient.rows()) * gradient.columns();
  DeviceMemory bias_parts(static_cast<size_t>(parts) * sizeof(float), stream);
  linear_gradient(layer, gradient, sums, sum_gradient, bias_gradient, reinterpret_cast<float*>(bias_parts.data()), stream);
}

}  // namespace usmlite::cuda
