#include "cuda/grouped_products.hpp"

#include "cuda/dense_product.hpp"
#include "cuda/gather_windows.hpp"
#include "cuda/training_product.hpp"

namespace usmlite::cuda {

void grouped_products(const GroupedProducts& products, const PackedSequences& sequences, const DeviceTensor& y, const Stream& stream) {
  const auto& [x, weight, groups, left_padding] = products;
  const int64_t in = products.in(), out = products.out();
  const DeviceTensor windows(x->type(), {x->rows(), weight->columns()}, stream);  // of one group after another
  for (int64_t group = 0; group < groups; ++group) {
    gather_windows(x->column_range(group * in, (group + 1) * in), sequences, 1, left_padding, sequences, windows, stream);
    const DeviceTensor rows = weight->slice(group * out, (group + 1) * out);
    dense_product_into({windows}, {rows}, 1.0f, {}, y.column_range(group * out, (group + 1) * out), stream);
  }
}

void grouped_products_backward(const GroupedProducts& products, const PackedSequences& sequences, const DeviceTensor& gradient,
                               const DeviceTensor* gradient_x, const DeviceTensor* gradient_weight, const Stream& stream) {
  const auto& [x, weight, groups, left_padding] = products;
  const int64_t in = products.in(), out = products.out();
  if (gradient_weight && x->rows() == 0)
    driver::fill(gradient_weight->use_on<uint8_t>(stream), 0, gradient_weight->memory()->bytes(), stream.handle());
  const DeviceTensor windows(x->type(), {x->rows(), weight->columns()}, stream);
  for (int64_t group = 0; group < groups; ++group) {
    const DeviceTensor above = gradient.column_range(group * out, (group + 1) * out);
    if (gradient_weight && x->rows() > 0) {
      gather_windows(x->column_range(group * in, (group + 1) * in), sequences, 1, left_padding, sequences, windows, stream);
      dense_product_into({above, true}, {windows, true}, 1.0f, {}, gradient_weight->slice(group * out, (group + 1) * out), stream);
    }
    if (gradient_x) {
      const DeviceTensor rows = weight->slice(group * out, (group + 1) * out);
      const DeviceTensor of_windows = training_product({above, false}, {rows, false}, 1.0f, above.type(), stream);
      gather_windows_backward(of_windows, sequences, 1, left_padding, sequences, gradient_x->column_range(group * in, (group + 1) * in), stream);
    }
  }
}

}  // namespace usmlite::cuda
