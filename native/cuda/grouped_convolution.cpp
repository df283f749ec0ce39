#include "cuda/grouped_convolution.hpp"

#include "cuda/gather_windows.hpp"

namespace usmlite::cuda {

void grouped_convolution(const GroupedConvolution& convolution, const PackedSequences& sequences, const Stream& stream) {
  const auto& [x, weights, biases, kernel, left_padding, activation, residual, batch_invariant, y] = convolution;
  const auto groups = static_cast<int64_t>(weights.size()), in = x->columns() / groups, out = y->columns() / groups;
  DeviceTensor windows(x->type(), {x->rows(), kernel * in}, stream);  // of one group after another
  for (int64_t group = 0; group < groups; ++group) {
    gather_windows(x->column_range(group * in, (group + 1) * in), sequences, 1, left_padding, sequences, windows, stream);
    const DeviceTensor output = y->column_range(group * out, (group + 1) * out);
    const DeviceTensor added = residual ? residual->column_range(group * out, (group + 1) * out) : DeviceTensor();
    LinearOptions options;
    options.bias = biases.empty() ? nullptr : biases[static_cast<size_t>(group)];
    options.residual = residual ? &added : nullptr;
    options.output = &output;
    options.activation = activation;
    if (batch_invariant) options.kernel = MatmulKernel::kManyTokens;
    const DeviceWeight& weight = *weights[static_cast<size_t>(group)];
    Linear(windows, nullptr, weight, options, stream).run(weight);
  }
}

}  // namespace usmlite::cuda
