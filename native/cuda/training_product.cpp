#include "cuda/training_product.hpp"

#include <limits>
#include <string>

#include "core/error.hpp"
#include "cuda/cast.hpp"
#include "cuda/cublaslt.hpp"
#include "cuda/dense_product.hpp"
#include "cuda/elementwise.hpp"
#include "cuda/runtime.hpp"
#include "cuda/transpose.hpp"

namespace usmlite::cuda {
namespace {

void check(const ProductOperand& a, const ProductOperand& b) {
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

/// Whether cuBLASLt was given y = scale * product + sum_factor * y.
bool by_library(const ProductOperand& a, const ProductOperand& b, float scale, float sum_factor, const DeviceTensor& y,
                const std::shared_ptr<Stream>& stream) {
  const Arithmetic arithmetic = a.matrix.type() == DeviceType::kBFloat16 ? Arithmetic::kBFloat16 : Arithmetic::kFloat16;
  const void *const a_data = a.matrix.use_on<void>(stream), *const b_data = b.matrix.use_on<void>(stream);
  void* const y_data = y.use_on<void>(stream);
  const CublasLtProduct* const plan = CublasLtProduct::prepared({arithmetic, static_cast<int>(a.rows()), static_cast<int>(a.columns()), static_cast<int>(b.columns()),
                                                a.matrix.row_stride(), b.matrix.row_stride(), y.row_stride(), a.transposed, !b.transposed,
                                                y.type() == DeviceType::kFloat32, CublasLtProduct::loosely_aligned({a_data, b_data, y_data})});
  if (!plan) return false;
  const DeviceMemory workspace(CublasLtProduct::kWorkspaceBytes, stream);
  return plan->run(0, a_data, b_data, y_data, workspace.data(), stream->handle(), scale, sum_factor);
}

DeviceTensor transposed_copy(const DeviceTensor& x, const std::shared_ptr<Stream>& stream) {
  DeviceTensor y(x.type(), {x.columns(), x.rows()}, stream);
  transpose(x, y, stream);
  return y;
}

/// y = scale * product + y_factor * y by our own kernel, which multiplies rows with rows.
void by_rows(const ProductOperand& a, const ProductOperand& b, float scale, const DeviceTensor& y, float y_factor, const std::shared_ptr<Stream>& stream) {
  const DeviceTensor rows = a.transposed ? transposed_copy(a.matrix, stream) : a.matrix;
  dense_product_into(rows, b.transposed ? b.matrix : transposed_copy(b.matrix, stream), scale, y, y_factor, stream);
}

void check_result(const ProductOperand& a, const ProductOperand& b, DeviceType type, const std::vector<int64_t>& shape) {
  if ((type == DeviceType::kFloat32 || type == a.matrix.type()) && shape == std::vector<int64_t>{a.rows(), b.columns()}) return;
  throw Error(error_code::kInvalidArgument, "a product of a training step: the result must be float32 or " + std::string(name_of(a.matrix.type())) + " " +
                                                shape_text({a.rows(), b.columns()}) + ", not " + name_of(type) + " " + shape_text(shape));
}

}  // namespace

DeviceTensor training_product(const ProductOperand& a, const ProductOperand& b, float scale, DeviceType type, const std::shared_ptr<Stream>& stream) {
  check(a, b);
  const std::vector<int64_t> shape{a.rows(), b.columns()};
  check_result(a, b, type, shape);
  DeviceTensor y(type, shape, stream);
  if (a.columns() == 0 && y.memory()->bytes() > 0) {
    driver::fill(y.use_on<void>(stream), 0, y.memory()->bytes(), stream->handle());
    return y;
  }
  if (a.rows() == 0 || b.columns() == 0 || by_library(a, b, scale, 0.0f, y, stream)) return y;
  if (type == a.matrix.type()) {
    by_rows(a, b, scale, y, 0.0f, stream);
  } else {
    const DeviceTensor narrow(a.matrix.type(), shape, stream);
    by_rows(a, b, scale, narrow, 0.0f, stream);
    cast(narrow, y, stream);
  }
  return y;
}

void add_training_product(const ProductOperand& a, const ProductOperand& b, float scale, const DeviceTensor& sum,
                          const std::shared_ptr<Stream>& stream) {
  check(a, b);
  check_result(a, b, sum.type(), sum.shape());
  if (a.columns() == 0 || a.rows() == 0 || b.columns() == 0 || by_library(a, b, scale, 1.0f, sum, stream)) return;
  if (sum.type() == a.matrix.type()) return by_rows(a, b, scale, sum, 1.0f, stream);
  const DeviceTensor product = training_product(a, b, scale, DeviceType::kFloat32, stream);
  scaled_sum(sum, 1.0f, product, 1.0f, sum, stream);
}

}  // namespace usmlite::cuda
