#include "cpu/ctc_loss.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

// ctcLoss(logits, offsets, targets, targetOffsets, blank, wantsGradient) -> [losses, gradient | undefined]
Napi::Value ctc_loss(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "ctcLoss", 6);
  const Tensor& logits = arguments.tensor(0, "logits", DType::kFloat32, {kAny, kAny});
  const Tensor& offsets = arguments.offsets(1, "offsets", logits.dim(0));
  const Tensor& targets = arguments.tensor(2, "targets", DType::kInt32, {kAny});
  const Tensor& target_offsets = arguments.offsets(3, "targetOffsets", targets.count());
  if (target_offsets.count() != offsets.count()) {
    arguments.fail("there are " + std::to_string(offsets.count() - 1) + " sequences of logits but " +
                   std::to_string(target_offsets.count() - 1) + " targets");
  }
  if (logits.dim(1) == 0) arguments.fail("the vocabulary is empty");
  const int64_t blank = arguments.integer(4, "blank", 0, logits.dim(1) - 1);
  for (int64_t i = 0; i < targets.count(); ++i) {
    const int32_t label = targets.i32()[i];
    if (label < 0 || label >= logits.dim(1) || label == blank) {
      arguments.fail("target label " + std::to_string(label) + " must be between 0 and " +
                     std::to_string(logits.dim(1) - 1) + " and not the blank, " + std::to_string(blank));
    }
  }
  const bool wants_gradient = arguments.boolean(5, "wantsGradient");
  Tensor losses(DType::kFloat32, {offsets.count() - 1});
  Tensor gradient;
  if (wants_gradient) gradient = Tensor(DType::kFloat32, logits.shape());
  cpu::ctc_loss(cpu::CtcBatch{logits.f32(), logits.dim(0), logits.dim(1), offsets.i32(), offsets.count() - 1,
                              targets.i32(), target_offsets.i32(), static_cast<int32_t>(blank)},
                losses.f32(), wants_gradient ? gradient.f32() : nullptr);
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, TensorHandle::wrap(info.Env(), std::move(losses)));
  if (wants_gradient) result.Set(1u, TensorHandle::wrap(info.Env(), std::move(gradient)));
  return result;
}

// scaleSequences(x, offsets, factors): x (frames, columns) *= factors (sequences), in place
Napi::Value scale_sequences(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "scaleSequences", 3);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& offsets = arguments.offsets(1, "offsets", x.dim(0));
  const Tensor& factors = arguments.tensor(2, "factors", DType::kFloat32, {offsets.count() - 1});
  cpu::scale_sequences(x.f32(), offsets.i32(), factors.count(), x.dim(1), factors.f32());
  return info.Env().Undefined();
}

}  // namespace

void define_ctc_loss(Napi::Object exports) {
  define<ctc_loss>(exports, "ctcLoss");
  define<scale_sequences>(exports, "scaleSequences");
}

}  // namespace usmlite::binding
