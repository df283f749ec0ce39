#include "cuda/linear_finish.hpp"

namespace usmlite::cuda {

void linear_gradient(const LinearFinish& layer, const DeviceTensor& gradient, const DeviceTensor* sums, const DeviceTensor* sum_gradient,
                     const DeviceTensor* bias_gradient, const std::shared_ptr<Stream>& stream) {
  if (gradient.rows() == 0 || gradient.columns() == 0) {
    if (bias_gradient && bias_gradient->memory()->bytes()) {
      driver::fill(bias_gradient->use_on<uint8_t>(stream), 0, bias_gradient->memory()->bytes(), stream->handle());
    }
    return;
  }
  if (!bias_gradient) return linear_gradient(layer, gradient, sums, sum_gradient, nullptr, nullptr, stream);
  const int64_t parts = linear_row_blocks(gradient.rows()) * gradient.columns();
  DeviceMemory bias_parts(static_cast<size_t>(parts) * sizeof(float), stream);
  linear_gradient(layer, gradient, sums, sum_gradient, bias_gradient, reinterpret_cast<float*>(bias_parts.data()), stream);
}

}  // namespace usmlite::cuda
