#include "cpu/transducer_loss.hpp"

#include <algorithm>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kLongestDuration = 1000;

int64_t kept_numbers(const cpu::TransducerBatch& batch) {
  int64_t cells = 0;
  for (int64_t i = 0; i < batch.sequences; ++i) cells += batch.cell_count(i);
  return cells * batch.kept();
}

// The batch that arguments frames, offsets, predictions, predictionOffsets, weight, bias, targets, blank, durations,
// undernormalization, teacher? describe.
cpu::TransducerBatch batch_of(const Arguments& arguments) {
  const Tensor& frames = arguments.tensor(0, "frames", DType::kFloat32, {kAny, kAny});
  const Tensor& offsets = arguments.offsets(1, "offsets", frames.dim(0));
  const int64_t sequences = offsets.count() - 1, joint = frames.dim(1);
  const Tensor& predictions = arguments.tensor(2, "predictions", DType::kFloat32, {kAny, joint});
  const Tensor& prediction_offsets = arguments.offsets(3, "predictionOffsets", predictions.dim(0));
  if (prediction_offsets.count() != offsets.count()) {
    arguments.fail("there are " + std::to_string(sequences) + " sequences of frames but " + std::to_string(prediction_offsets.count() - 1) +
                   " of predictions");
  }
  for (int64_t i = 0; i < sequences; ++i) {
    if (prediction_offsets.i32()[i] == prediction_offsets.i32()[i + 1]) {
      arguments.fail("sequence " + std::to_string(i) + " has no prediction, not even of the empty prefix");
    }
  }
  const Tensor& durations = arguments.tensor(8, "durations", DType::kInt32, {kAny});
  const Tensor& weight = arguments.tensor(4, "weight", DType::kFloat32, {kAny, joint});
  const Tensor& bias = arguments.tensor(5, "bias", DType::kFloat32, {weight.dim(0)});
  const int64_t vocabulary = weight.dim(0) - durations.count();
  if (vocabulary < 1 || joint == 0) {
    arguments.fail("weight must have rows for a vocabulary and " + std::to_string(durations.count()) + " durations but has shape " +
                   shape_text(weight.shape()));
  }
  const int64_t blank = arguments.integer(7, "blank", 0, vocabulary - 1);
  for (int64_t i = 0; i < durations.count(); ++i) {
    const int32_t duration = durations.i32()[i];
    if (duration < 0 || duration > kLongestDuration) {
      arguments.fail("duration " + std::to_string(duration) + " must be between 0 and " + std::to_string(kLongestDuration));
    }
  }
  const Tensor& targets = arguments.tensor(6, "targets", DType::kInt32, {predictions.dim(0) - sequences});
  for (int64_t i = 0; i < targets.count(); ++i) {
    const int32_t label = targets.i32()[i];
    if (label < 0 || label >= vocabulary || label == blank) {
      arguments.fail("target label " + std::to_string(label) + " must be between 0 and " + std::to_string(vocabulary - 1) +
                     " and not the blank, " + std::to_string(blank));
    }
  }
  cpu::TransducerBatch batch{
      .frames = frames.f32(),
      .offsets = offsets.i32(),
      .predictions = predictions.f32(),
      .prediction_offsets = prediction_offsets.i32(),
      .sequences = sequences,
      .joint = joint,
      .weight = weight.f32(),
      .bias = bias.f32(),
      .vocabulary = vocabulary,
      .targets = targets.i32(),
      .blank = static_cast<int32_t>(blank),
      .durations = durations.i32(),
      .duration_count = durations.count(),
      .undernormalization = static_cast<float>(arguments.number(9, "undernormalization", 0, 10)),
      .teacher = nullptr,
  };
  const Tensor* teacher = arguments.optional_tensor(10, "teacher", DType::kFloat32, {kept_numbers(batch)});
  batch.teacher = data_or_null(teacher);
  return batch;
}

// transducerLoss(what batch_of takes) -> [losses, lattice, divergences?]
Napi::Value transducer_loss(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "transducerLoss", 11);
  const cpu::TransducerBatch batch = batch_of(arguments);
  const Tensor losses(DType::kFloat32, {batch.sequences}), lattice(DType::kFloat32, {kept_numbers(batch)});
  const Tensor divergences = tensor_if(batch.teacher != nullptr, {batch.sequences});
  cpu::transducer_loss(batch, losses.f32(), lattice.f32(), data_or_null(divergences));
  return wrap_all(info.Env(), {losses, lattice, divergences});
}

// transducerLossBackward(what batch_of takes, losses, lattice, factors, divergenceFactor) -> gradients of [frames, predictions, weight, bias]
Napi::Value transducer_loss_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "transducerLossBackward", 15);
  const cpu::TransducerBatch batch = batch_of(arguments);
  const Tensor& losses = arguments.tensor(11, "losses", DType::kFloat32, {batch.sequences});
  const Tensor& lattice = arguments.tensor(12, "lattice", DType::kFloat32, {kept_numbers(batch)});
  const Tensor& factors = arguments.tensor(13, "factors", DType::kFloat32, {batch.sequences});
  const auto zeros_like = [&](size_t index) {
    Tensor tensor(DType::kFloat32, arguments.any_tensor(index, "operand").shape());
    std::fill_n(tensor.f32(), tensor.count(), 0.0f);
    return tensor;
  };
  const Tensor frames = zeros_like(0), predictions = zeros_like(2), weight = zeros_like(4), bias = zeros_like(5);
  cpu::transducer_loss_backward(batch, losses.f32(), lattice.f32(), factors.f32(),
                                static_cast<float>(arguments.number(14, "divergenceFactor", -1e30, 1e30)),
                                cpu::TransducerGradients{frames.f32(), predictions.f32(), weight.f32(), bias.f32()});
  return wrap_all(info.Env(), {frames, predictions, weight, bias});
}

}  // namespace

void define_transducer_loss(Napi::Object exports) {
  define<transducer_loss>(exports, "transducerLoss");
  define<transducer_loss_backward>(exports, "transducerLossBackward");
}

}  // namespace usmlite::binding
