#include "cuda/training_product.hpp"

#include <limits>
#include <string>

#include "core/error.hpp"
#include "cuda/elementwise.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {
namespace {

void check_factors(const ProductOperand& a, const ProductOperand& b) {
  const auto invalid = [](const std::string& sentence) { throw Error(error_code::kInvalidArgument, "a product of a training step: " + sentence); };
  const DeviceType type = a.matrix.type();
  if ((type != DeviceType::kBFloat16 && type != DeviceType::kFloat16) || b.matrix.type() != type) {
    invalid(std::string("both matrices must be bfloat16 or float16, not ") + name_of(type) + " and " + name_of(b.matrix.type()));
  }
  if (a.matrix.shape().size() != 2 || b.matrix.shape().size() != 2 || a.columns() != b.rows()) {
    invalid("shapes " + shape_text(a.matrix.shape()) + (a.transposed ? " transposed" : "") + " and " + shape_text(b.matrix.shape()) +
            (b.transposed ? " transposed" : "") + " do not multiply");
  }
  for (const int64_t extent : {a.rows(), a.columns(), b.columns()}) {
    if (extent > std::numeric_limits<int>::max() / 2) invalid("matrices of more than 2^30 rows");
  }
}

void check_result(const ProductOperand& a, const ProductOperand& b, DeviceType type, const std::vector<int64_t>& shape,
                  const char* what = "the result") {
  if ((type == DeviceType::kFloat32 || type == a.matrix.type()) && shape == std::vector<int64_t>{a.rows(), b.columns()}) return;
  throw Error(error_code::kInvalidArgument, std::string("a product of a training step: ") + what + " must be float32 or " + name_of(a.matrix.type()) +
                                                " " + shape_text({a.rows(), b.columns()}) + ", not " + name_of(type) + " " + shape_text(shape));
}

}  // namespace

DeviceTensor training_product(const ProductOperand& a, const ProductOperand& b, float scale, DeviceType type, const Stream& stream,
                              const ProductAddend& addend) {
  check_factors(a, b);
  const std::vector<int64_t> shape{a.rows(), b.columns()};
  check_result(a, b, type, shape);
  DeviceTensor y(type, shape, stream);
  if (addend.matrix) {
    check_result(a, b, addend.matrix->type(), addend.matrix->shape(), "what is added");
    if (addend.matrix->row_stride() != y.row_stride()) {
      throw Error(error_code::kInvalidArgument, "a product of a training step: what is added must be a whole matrix, not columns of one");
    }
  }
  if (a.columns() > 0) {
    dense_product_into(a, {b.matrix, !b.transposed}, scale, addend, y, stream);
  } else if (y.memory()->bytes() > 0) {
    driver::fill(y.use_on<void>(stream), 0, y.memory()->bytes(), stream.handle());
    if (addend.matrix) scaled_sum(*addend.matrix, addend.factor, y, 0.0f, y, stream);
  }
  return y;
}

void add_training_product(const ProductOperand& a, const ProductOperand& b, float scale, const DeviceTensor& sum,
                          const Stream& stream) {
  check_factors(a, b);
  check_result(a, b, sum.type(), sum.shape());
  if (a.columns() > 0) dense_product_into(a, {b.matrix, !b.transposed}, scale, {&sum, 1.0f}, sum, stream);
}

}  // namespace usmlite::cuda
