// Training of sequence-to-sequence models on the GPU: rows that stand for tokens and positions, and the loss of the next token.
#include <vector>

#include "cuda/cross_entropy.hpp"
#include "cuda/row_copies.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

const DeviceTensor& matrix(const Arguments& arguments, const DeviceTensor& x, const char* name, bool may_be_wide) {
  const bool fits = x.type() == DeviceType::kBFloat16 || (may_be_wide && x.type() == DeviceType::kFloat32);
  if (!fits) arguments.fail(std::string(name) + " is " + cuda::name_of(x.type()) + "; it must be bfloat16" + (may_be_wide ? " or float32" : ""));
  if (x.shape().size() != 2) arguments.fail(std::string(name) + " has shape " + shape_text(x.shape()) + "; it must have rows and columns");
  return x;
}

/// Rows of x.
std::vector<int32_t> indices_argument(const Arguments& arguments, size_t index, const DeviceTensor& x) {
  const Tensor& indices = arguments.tensor(index, "indices", DType::kInt32, {kAny});
  for (int64_t i = 0; i < indices.count(); ++i) {
    if (indices.i32()[i] >= 0 && indices.i32()[i] < x.rows()) continue;
    arguments.fail("index " + std::to_string(i) + " is " + std::to_string(indices.i32()[i]) + " but x has rows 0.." + std::to_string(x.rows() - 1));
  }
  return {indices.i32(), indices.i32() + indices.count()};
}

// deviceGatherRows(x (rows, columns), indices int32 (n), stream?): bfloat16 (n, columns)
Napi::Value gather_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceGatherRows", 2);
  Operands operands(arguments, info);
  const DeviceTensor& x = matrix(arguments, operands.any_floats(0, "x"), "x", true);
  const std::vector<int32_t> indices = indices_argument(arguments, 1, x);
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor y(DeviceType::kBFloat16, {static_cast<int64_t>(indices.size()), x.columns()}, stream);
  cuda::gather_rows(x, indices, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceAddRows(x float32 (rows, columns), indices int32 (n), rows bfloat16 (n, columns), stream?): row indices[i] of x += row i of rows
Napi::Value add_rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceAddRows", 3);
  Operands operands(arguments, info);
  const DeviceTensor& x = operands.singles(0, "x");
  const std::vector<int32_t> indices = indices_argument(arguments, 1, x);
  const DeviceTensor& rows = matrix(arguments, operands.any_floats(2, "rows"), "rows", false);
  const std::vector<int64_t> shape{static_cast<int64_t>(indices.size()), x.columns()};
  if (rows.shape() != shape) arguments.fail("rows must have shape " + shape_text(shape) + " but has " + shape_text(rows.shape()));
  cuda::add_rows(rows, indices, x, stream_argument(arguments, info, 3));
  return info.Env().Undefined();
}

// deviceCrossEntropy(logits bfloat16 (rows, columns), labels int32 (rows), smoothing, factor, wantsGradient, stream?) -> [losses (rows), gradient?]
Napi::Value cross_entropy(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceCrossEntropy", 5);
  Operands operands(arguments, info);
  const DeviceTensor& logits = matrix(arguments, operands.any_floats(0, "logits"), "logits", false);
  const int64_t rows = logits.rows(), columns = logits.columns();
  const Tensor& labels = arguments.tensor(1, "labels", DType::kInt32, {rows});
  std::vector<int32_t> wanted(labels.i32(), labels.i32() + rows);
  for (int32_t& label : wanted) {
    if (label >= columns) arguments.fail("label " + std::to_string(label) + " does not exist: there are " + std::to_string(columns) + " columns");
    if (label < 0) label = static_cast<int32_t>(columns);
  }
  const auto smoothing = static_cast<float>(arguments.number(2, "smoothing", 0.0, 1.0)),
             factor = static_cast<float>(arguments.number(3, "factor", -1e30, 1e30));
  const auto stream = stream_argument(arguments, info, 5);
  const DeviceTensor losses(DeviceType::kFloat32, {rows}, stream);
  const Wanted gradient(arguments.boolean(4, "wantsGradient"), logits.type(), logits.shape(), stream);
  if (rows > 0) {
    cuda::DeviceSequences placed({0, static_cast<int32_t>(rows)}, wanted, stream);
    cuda::cross_entropy({&logits, placed.use_on(stream), smoothing, factor, &losses, gradient.get()}, stream);
  }
  return wrap_all(info.Env(), {&losses, gradient.get()});
}

}  // namespace

void define_device_sequence_training(Napi::Object exports) {
  define<gather_rows>(exports, "deviceGatherRows");
  define<add_rows>(exports, "deviceAddRows");
  define<cross_entropy>(exports, "deviceCrossEntropy");
}

}  // namespace usmlite::binding
