// Connectionist temporal classification on the GPU: loss with gradient, what reduces the losses of a batch, and the best path.
#include "cuda/ctc_best_path.hpp"
#include "cuda/ctc_loss.hpp"
#include "cuda/scale_sequences.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

std::shared_ptr<DeviceTensor> matrix_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index, const char* name) {
  auto tensor = DeviceTensorObject::from(arguments, info[index], name);
  if (tensor->type() != DeviceType::kFloat32 && tensor->type() != DeviceType::kBFloat16) {
    arguments.fail(std::string(name) + " is " + cuda::name_of(tensor->type()) + "; it must be float32 or bfloat16");
  }
  if (tensor->shape().size() != 2)
    arguments.fail(std::string(name) + " has shape " + shape_text(tensor->shape()) + "; it must have frames and columns");
  return tensor;
}

std::shared_ptr<DeviceTensor> vector_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index, const char* name,
                                              int64_t extent) {
  auto tensor = DeviceTensorObject::from(arguments, info[index], name);
  if (tensor->type() != DeviceType::kFloat32 || tensor->shape() != std::vector<int64_t>{extent}) {
    arguments.fail(std::string(name) + " must be float32 (" + std::to_string(extent) + ") but is " + cuda::name_of(tensor->type()) + " " +
                   shape_text(tensor->shape()));
  }
  return tensor;
}

std::shared_ptr<cuda::DeviceSequences> sequences_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index,
                                                          const DeviceTensor& x) {
  auto sequences = DeviceSequencesObject::from(arguments, info[index], "sequences");
  if (sequences->frames() != x.rows()) {
    arguments.fail("the sequences have " + std::to_string(sequences->frames()) + " frames but x has " + std::to_string(x.rows()));
  }
  return sequences;
}

// deviceCtcLoss(logits, sequences, targets int32, targetOffsets int32 (sequences + 1), blank, wantsGradient, stream?) -> [losses, gradient?]
Napi::Value ctc_loss(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceCtcLoss", 6);
  const auto logits = matrix_argument(arguments, info, 0, "logits");
  const auto sequences = sequences_argument(arguments, info, 1, *logits);
  const Tensor& targets = arguments.tensor(2, "targets", DType::kInt32, {kAny});
  const Tensor& target_offsets = arguments.offsets(3, "targetOffsets", targets.count());
  if (target_offsets.count() != sequences->count() + 1) {
    arguments.fail("there are " + std::to_string(sequences->count()) + " sequences of logits but " +
                   std::to_string(target_offsets.count() - 1) + " targets");
  }
  const int64_t vocabulary = logits->columns();
  if (vocabulary == 0) arguments.fail("the vocabulary is empty");
  const int64_t blank = arguments.integer(4, "blank", 0, vocabulary - 1);
  for (int64_t i = 0; i < targets.count(); ++i) {
    const int32_t label = targets.i32()[i];
    if (label < 0 || label >= vocabulary || label == blank) {
      arguments.fail("target label " + std::to_string(label) + " must be between 0 and " + std::to_string(vocabulary - 1) +
                     " and not the blank, " + std::to_string(blank));
    }
  }
  const bool wants_gradient = arguments.boolean(5, "wantsGradient");
  const auto stream = stream_argument(arguments, info, 6);
  DeviceTensor losses(DeviceType::kFloat32, {sequences->count()}, stream);
  DeviceTensor gradient;
  if (wants_gradient) gradient = DeviceTensor(logits->type(), logits->shape(), stream);
  cuda::ctc_loss(*logits, *sequences, cuda::make_ctc_transcripts(targets.i32(), target_offsets.i32(), sequences->count()),
                 static_cast<int>(blank), losses, wants_gradient ? &gradient : nullptr, stream);
  Napi::Array result = Napi::Array::New(info.Env(), 1);
  result.Set(0u, wrap(info.Env(), std::move(losses)));
  if (wants_gradient) result.Set(1u, wrap(info.Env(), std::move(gradient)));
  return result;
}

// deviceCtcBestPath(logits, blank, stream?): float32 (frames, 3)
Napi::Value best_path(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceCtcBestPath", 2);
  const auto logits = DeviceTensorObject::from(arguments, info[0], "logits");
  if (logits->type() != DeviceType::kBFloat16 && logits->type() != DeviceType::kFloat16) {
    arguments.fail(std::string("logits are ") + cuda::name_of(logits->type()) + "; they must be bfloat16 or float16");
  }
  if (logits->shape().size() != 2 || logits->columns() == 0) {
    arguments.fail("logits have shape " + shape_text(logits->shape()) + "; they must have frames and a vocabulary");
  }
  const auto blank = static_cast<int>(arguments.integer(1, "blank", 0, logits->columns() - 1));
  const auto stream = stream_argument(arguments, info, 2);
  DeviceTensor path(DeviceType::kFloat32, {logits->rows(), 3}, stream);
  cuda::ctc_best_path(*logits, blank, path, stream);
  return wrap(info.Env(), std::move(path));
}

// deviceScaleSequences(x, sequences, factors (sequences), upstream (1), stream?): in place
Napi::Value scale_sequences(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceScaleSequences", 4);
  const auto x = matrix_argument(arguments, info, 0, "x");
  const auto sequences = sequences_argument(arguments, info, 1, *x);
  const auto factors = vector_argument(arguments, info, 2, "factors", sequences->count());
  const auto upstream = vector_argument(arguments, info, 3, "upstream", 1);
  const auto stream = stream_argument(arguments, info, 4);
  cuda::scale_sequences(*x, sequences->use_on(stream), *factors, *upstream, stream);
  return info.Env().Undefined();
}

// deviceWeightedSum(values (n), weights (n), zeroInfinity, stream?): float32 (1)
Napi::Value weighted_sum(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceWeightedSum", 3);
  const auto values = DeviceTensorObject::from(arguments, info[0], "values");
  vector_argument(arguments, info, 0, "values", values->columns());
  const auto weights = vector_argument(arguments, info, 1, "weights", values->columns());
  const bool zero_infinity = arguments.boolean(2, "zeroInfinity");
  const auto stream = stream_argument(arguments, info, 3);
  DeviceTensor total(DeviceType::kFloat32, {1}, stream);
  cuda::weighted_sum(*values, *weights, zero_infinity, total, stream);
  return wrap(info.Env(), std::move(total));
}

}  // namespace

void define_device_ctc(Napi::Object exports) {
  define<ctc_loss>(exports, "deviceCtcLoss");
  define<best_path>(exports, "deviceCtcBestPath");
  define<scale_sequences>(exports, "deviceScaleSequences");
  define<weighted_sum>(exports, "deviceWeightedSum");
}

}  // namespace usmlite::binding
