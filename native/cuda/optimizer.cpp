#include "cuda/optimizer.hpp"

namespace usmlite::cuda {

double sum_of_squares(const std::vector<const DeviceTensor*>& tensors, const std::shared_ptr<Stream>& stream) {
  int64_t blocks = 0;
  for (const DeviceTensor* tensor : tensors) blocks += square_blocks(*tensor);
  if (blocks == 0) return 0.0;
  std::vector<double> sums(static_cast<size_t>(blocks));
  const size_t bytes = sums.size() * sizeof(double);
  DeviceMemory parts(bytes, stream);
  auto* next = reinterpret_cast<double*>(parts.data());
  for (const DeviceTensor* tensor : tensors) {
    sums_of_squares(*tensor, next, stream);
    next += square_blocks(*tensor);
  }
  driver::copy_to_host(sums.data(), bytes, parts.data(), bytes, bytes, 1, stream->handle());
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace usmlite::cuda
