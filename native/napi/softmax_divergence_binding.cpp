#include "cpu/softmax_divergence.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// softmaxDivergence(student, teacher, temperature, wantsGradient) -> [divergences (rows), gradient (rows, columns)?]
Napi::Value softmax_divergence(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "softmaxDivergence", 4);
  const Tensor& student = arguments.tensor(0, "student", DType::kFloat32, {kAny, kAny});
  if (student.dim(1) == 0) arguments.fail("student has no columns");
  const Tensor& teacher = arguments.tensor(1, "teacher", DType::kFloat32, {student.dim(0), student.dim(1)});
  const float temperature = static_cast<float>(arguments.number(2, "temperature", 1e-3, 1e6));
  Tensor divergences(DType::kFloat32, {student.dim(0)});
  const Tensor gradient = tensor_if(arguments.boolean(3, "wantsGradient"), student.shape());
  cpu::softmax_divergence(student.f32(), teacher.f32(), student.dim(0), student.dim(1), temperature, divergences.f32(), data_or_null(gradient));
  return wrap_all(info.Env(), {divergences, gradient});
}

}  // namespace

void define_softmax_divergence(Napi::Object exports) { define<softmax_divergence>(exports, "softmaxDivergence"); }

}  // namespace usmlite::binding
