#include "cpu/cross_entropy.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// crossEntropy(logits, labels, smoothing, wantsGradient) -> [losses (rows), gradient (rows, columns)?]
Napi::Value cross_entropy(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "crossEntropy", 4);
  const Tensor& logits = arguments.tensor(0, "logits", DType::kFloat32, {kAny, kAny});
  const int64_t rows = logits.dim(0), columns = logits.dim(1);
  if (columns == 0) arguments.fail("logits has no columns");
  const Tensor& labels = arguments.tensor(1, "labels", DType::kInt32, {rows});
  for (int64_t row = 0; row < rows; ++row) {
    if (labels.i32()[row] >= columns) {
      arguments.fail("label " + std::to_string(labels.i32()[row]) + " does not exist: there are " + std::to_string(columns) + " columns");
    }
  }
  const float smoothing = static_cast<float>(arguments.number(2, "smoothing", 0, 1));
  Tensor losses(DType::kFloat32, {rows});
  const Tensor gradient = tensor_if(arguments.boolean(3, "wantsGradient"), logits.shape());
  cpu::cross_entropy(logits.f32(), labels.i32(), rows, columns, smoothing, losses.f32(), data_or_null(gradient));
  return wrap_all(info.Env(), {losses, gradient});
}

}  // namespace

void define_cross_entropy(Napi::Object exports) { define<cross_entropy>(exports, "crossEntropy"); }

}  // namespace usmlite::binding
