// Training of transducers on the GPU: their prediction network's memory, and the loss with the joint network.
#include "cuda/lstm_sequence.hpp"
#include "cuda/transducer_loss.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

constexpr int64_t kLongestDuration = 1000;

/// bfloat16 (rows, columns); an extent of kAny may be any.
const DeviceTensor& matrix(const Arguments& arguments, Operands& operands, size_t index, const char* name, int64_t rows, int64_t columns) {
  const DeviceTensor& x = operands.any_floats(index, name);
  const bool fits =
      x.type() == DeviceType::kBFloat16 && x.shape().size() == 2 && (rows == kAny || x.rows() == rows) && (columns == kAny || x.columns() == columns);
  if (!fits) {
    const auto extent = [](int64_t wanted) { return wanted == kAny ? std::string("any") : std::to_string(wanted); };
    arguments.fail(std::string(name) + " must be bfloat16 (" + extent(rows) + ", " + extent(columns) + ") but is " + cuda::name_of(x.type()) + " " +
                   shape_text(x.shape()));
  }
  return x;
}

std::vector<int32_t> offsets_argument(const Arguments& arguments, size_t index, const char* name, int64_t rows) {
  const Tensor& offsets = arguments.offsets(index, name, rows);
  return {offsets.i32(), offsets.i32() + offsets.count()};
}

/// (4 * hidden, hidden)
const DeviceTensor& recurrent_argument(const Arguments& arguments, Operands& operands, size_t index) {
  const DeviceTensor& recurrent = matrix(arguments, operands, index, "recurrent", kAny, kAny);
  if (recurrent.rows() != 4 * recurrent.columns()) {
    arguments.fail("recurrent must be (4 * hidden, hidden) but has shape " + shape_text(recurrent.shape()));
  }
  return recurrent;
}

// deviceLstmSequence(inputs bfloat16 (rows, 4 * hidden), recurrent bfloat16, offsets, stream?): [hidden, previous, cells, gates]
Napi::Value lstm_sequence(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLstmSequence", 3);
  Operands operands(arguments, info);
  const DeviceTensor& recurrent = recurrent_argument(arguments, operands, 1);
  const DeviceTensor& inputs = matrix(arguments, operands, 0, "inputs", kAny, recurrent.rows());
  const auto states =
      cuda::lstm_sequence(inputs, recurrent, offsets_argument(arguments, 2, "offsets", inputs.rows()), stream_argument(arguments, info, 3));
  return wrap_all(info.Env(), {&states.hidden, &states.previous, &states.cells, &states.gates});
}

// deviceLstmSequenceBackward(recurrent, offsets, hidden, previous, cells, gates, gradient, stream?): that of inputs
Napi::Value lstm_sequence_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLstmSequenceBackward", 7);
  Operands operands(arguments, info);
  const DeviceTensor& recurrent = recurrent_argument(arguments, operands, 0);
  const DeviceTensor& hidden = matrix(arguments, operands, 2, "hidden", kAny, recurrent.columns());
  const int64_t rows = hidden.rows();
  const cuda::LstmStates states{hidden, operands.like(3, "previous", hidden), operands.weights(4, "cells", hidden.shape()),
                                matrix(arguments, operands, 5, "gates", rows, recurrent.rows())};
  return wrap(info.Env(), cuda::lstm_sequence_backward(states, recurrent, offsets_argument(arguments, 1, "offsets", rows),
                                                       operands.like(6, "gradient", hidden), stream_argument(arguments, info, 7)));
}

/// frames, offsets, predictions, predictionOffsets, weight, bias, targets, blank, durations, undernormalization, teacher?, slabRows
constexpr size_t kBatchArguments = 12;

cuda::TransducerBatch batch_of(const Arguments& arguments, Operands& operands) {
  const DeviceTensor& frames = matrix(arguments, operands, 0, "frames", kAny, kAny);
  const int64_t joint = frames.columns();
  const DeviceTensor& predictions = matrix(arguments, operands, 2, "predictions", kAny, joint);
  cuda::TransducerBatch batch{.frames = &frames,
                              .frame_offsets = offsets_argument(arguments, 1, "offsets", frames.rows()),
                              .predictions = &predictions,
                              .prediction_offsets = offsets_argument(arguments, 3, "predictionOffsets", predictions.rows()),
                              .weight = nullptr,
                              .bias = nullptr,
                              .targets = {},
                              .blank = 0,
                              .durations = {},
                              .undernormalization = static_cast<float>(arguments.number(9, "undernormalization", 0, 10)),
                              .teacher = nullptr,
                              .slab_rows = arguments.integer(11, "slabRows", 0, 1 << 24)};
  const auto sequences = static_cast<int64_t>(batch.count());
  if (batch.prediction_offsets.size() != batch.frame_offsets.size()) {
    arguments.fail("there are " + std::to_string(sequences) + " sequences of frames but " + std::to_string(batch.prediction_offsets.size() - 1) +
                   " of predictions");
  }
  for (size_t i = 0; i < batch.count(); ++i) {
    if (batch.label_count(i) < 0) arguments.fail("sequence " + std::to_string(i) + " has no prediction, not even of the empty prefix");
  }
  const std::vector<int64_t> durations = arguments.integers(8, "durations", 0, kLongestDuration);
  if (durations.size() > static_cast<size_t>(cuda::kMostTransducerDurations)) {
    throw Error(error_code::kUnsupportedSpec, std::to_string(durations.size()) + " durations; on the GPU there can be " +
                                                  std::to_string(cuda::kMostTransducerDurations));
  }
  batch.durations.assign(durations.begin(), durations.end());
  batch.weight = &matrix(arguments, operands, 4, "weight", kAny, joint);
  batch.bias = &operands.weights(5, "bias", {batch.weight->rows()});
  const int64_t vocabulary = batch.weight->rows() - static_cast<int64_t>(durations.size());
  if (vocabulary < 1 || joint == 0) {
    arguments.fail("weight must have rows for a vocabulary and " + std::to_string(durations.size()) + " durations but has shape " +
                   shape_text(batch.weight->shape()));
  }
  batch.blank = static_cast<int>(arguments.integer(7, "blank", 0, vocabulary - 1));
  const Tensor& targets = arguments.tensor(6, "targets", DType::kInt32, {predictions.rows() - sequences});
  batch.targets.assign(targets.i32(), targets.i32() + targets.count());
  for (const int32_t label : batch.targets) {
    if (label < 0 || label >= vocabulary || label == batch.blank) {
      arguments.fail("target label " + std::to_string(label) + " must be between 0 and " + std::to_string(vocabulary - 1) + " and not the blank, " +
                     std::to_string(batch.blank));
    }
  }
  batch.teacher = operands.optional_weights(10, "teacher", {batch.cells() * batch.kept()});
  return batch;
}

// deviceTransducerLoss(what batch_of takes, stream?) -> [losses, lattice, divergences?, shares?]
Napi::Value transducer_loss(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTransducerLoss", kBatchArguments);
  Operands operands(arguments, info);
  const cuda::TransducerBatch batch = batch_of(arguments, operands);
  const cuda::TransducerLosses result = cuda::transducer_loss(batch, stream_argument(arguments, info, kBatchArguments));
  return wrap_all(info.Env(),
                  {&result.losses, &result.lattice, batch.teacher ? &result.divergences : nullptr, batch.teacher ? &result.shares : nullptr});
}

// deviceTransducerLossBackward(what batch_of takes, losses, lattice, shares?, factors, upstream?, divergenceUpstream?, divergenceFactor,
//                              wantsRows, weightGradient?, wantsBias, stream?) -> [frames?, predictions?, bias?]; that of the weight is added
Napi::Value transducer_loss_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTransducerLossBackward", kBatchArguments + 10);
  Operands operands(arguments, info);
  const cuda::TransducerBatch batch = batch_of(arguments, operands);
  const auto at = [](size_t index) { return kBatchArguments + index; };
  const auto sequences = static_cast<int64_t>(batch.count());
  const cuda::TransducerSeeds seeds{.losses = &operands.weights(at(0), "losses", {sequences}),
                                    .lattice = &operands.weights(at(1), "lattice", {batch.cells() * batch.kept()}),
                                    .shares = operands.optional_weights(at(2), "shares", {batch.cells()}),
                                    .factors = &operands.weights(at(3), "factors", {sequences}),
                                    .upstream = operands.optional_weights(at(4), "upstream", {1}),
                                    .divergence_upstream = operands.optional_weights(at(5), "divergenceUpstream", {1}),
                                    .divergence_factor = static_cast<float>(arguments.number(at(6), "divergenceFactor", -1e30, 1e30))};
  if (batch.teacher && !seeds.shares) arguments.fail("shares are needed with a teacher");
  const auto stream = stream_argument(arguments, info, at(10));
  const bool wants_rows = arguments.boolean(at(7), "wantsRows");
  const Wanted frames(wants_rows, DeviceType::kBFloat16, batch.frames->shape(), stream);
  const Wanted predictions(wants_rows, DeviceType::kBFloat16, batch.predictions->shape(), stream);
  const Wanted bias(arguments.boolean(at(9), "wantsBias"), DeviceType::kFloat32, batch.bias->shape(), stream);
  const DeviceTensor* weight = operands.optional_weights(at(8), "weightGradient", batch.weight->shape());
  cuda::transducer_loss_backward(batch, seeds, {frames.get(), predictions.get(), weight, bias.get()}, stream);
  return wrap_all(info.Env(), {frames.get(), predictions.get(), bias.get()});
}

}  // namespace

void define_device_transducer_training(Napi::Object exports) {
  define<lstm_sequence>(exports, "deviceLstmSequence");
  define<lstm_sequence_backward>(exports, "deviceLstmSequenceBackward");
  define<transducer_loss>(exports, "deviceTransducerLoss");
  define<transducer_loss_backward>(exports, "deviceTransducerLossBackward");
}

}  // namespace usmlite::binding
