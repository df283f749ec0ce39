// Greedy decoding of transducers on the GPU.
#include "cuda/transducer_greedy.hpp"
#include "cuda/transducer_lstm.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

/// A matrix of the given type; an extent of kAny may be any.
std::shared_ptr<DeviceTensor> matrix(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index, const char* name, DeviceType type,
                                     int64_t rows, int64_t columns) {
  auto tensor = DeviceTensorObject::from(arguments, info[index], name);
  const bool fits = tensor->type() == type && tensor->shape().size() == 2 && (rows == kAny || tensor->rows() == rows) &&
                    (columns == kAny || tensor->columns() == columns) && tensor->rows() > 0;
  if (!fits)
    arguments.fail(std::string(name) + " is " + cuda::name_of(tensor->type()) + " " + shape_text(tensor->shape()) +
                   ", which does not fit the others");
  return tensor;
}

std::shared_ptr<DeviceTensor> state_argument(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index) {
  return matrix(arguments, info, index, "state", DeviceType::kFloat32, kAny, cuda::transducer_state::kColumns);
}

// deviceTransducerLstm(weights float16 (fragments, 256), bias float32 (hidden / 4, 16), x float16, looksUp, state, before float16, after float16,
//                      cell float32): fills `after`, and changes `cell` in place
Napi::Value lstm(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTransducerLstm", 8);
  const auto state = state_argument(arguments, info, 4);
  const auto before = matrix(arguments, info, 5, "before", DeviceType::kFloat16, state->rows(), kAny);
  const int64_t hidden = before->columns();
  if (hidden == 0 || hidden % 8 != 0) arguments.fail("there are " + std::to_string(hidden) + " hidden values; they must be a multiple of 8");
  const auto after = matrix(arguments, info, 6, "after", DeviceType::kFloat16, state->rows(), hidden);
  if (after->memory() == before->memory()) arguments.fail("after must have other memory than before");
  const auto cell = matrix(arguments, info, 7, "cell", DeviceType::kFloat32, state->rows(), hidden);
  const bool looks_up = arguments.boolean(3, "looksUp");
  const auto x = matrix(arguments, info, 2, "x", DeviceType::kFloat16, looks_up ? kAny : state->rows(), hidden);
  const int64_t units = hidden / cuda::kLstmUnits;
  const auto weights = matrix(arguments, info, 0, "weights", DeviceType::kFloat16, units * (2 * hidden / cuda::kLstmColumns), cuda::kLstmFragment);
  const auto bias = matrix(arguments, info, 1, "bias", DeviceType::kFloat32, units, cuda::kLstmRows);
  cuda::transducer_lstm({weights.get(), bias.get(), x.get(), looks_up, state.get(), before.get(), after.get(), cell.get()}, cuda::default_stream());
  return info.Env().Undefined();
}

// deviceTransducerJoin(frames float32 or bfloat16 (frames, joint), prediction float16 (utterances, joint), state): float16 (utterances, joint)
Napi::Value join(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTransducerJoin", 3);
  const bool rounded = DeviceTensorObject::from(arguments, info[0], "frames")->type() == DeviceType::kBFloat16;
  const auto frames = matrix(arguments, info, 0, "frames", rounded ? DeviceType::kBFloat16 : DeviceType::kFloat32, kAny, kAny);
  const auto state = state_argument(arguments, info, 2);
  const auto prediction = matrix(arguments, info, 1, "prediction", DeviceType::kFloat16, state->rows(), frames->columns());
  const auto& stream = cuda::default_stream();
  DeviceTensor y(DeviceType::kFloat16, prediction->shape(), stream);
  cuda::transducer_join(*frames, *prediction, *state, y, stream);
  return wrap(info.Env(), std::move(y));
}

// deviceTransducerDecide(scores float16 (utterances, vocabulary + durations), blank, maximumSymbols, durations, state, steps): in place
Napi::Value decide(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceTransducerDecide", 6);
  const auto state = state_argument(arguments, info, 4);
  const auto scores = matrix(arguments, info, 0, "scores", DeviceType::kFloat16, state->rows(), kAny);
  const auto steps = matrix(arguments, info, 5, "steps", DeviceType::kFloat32, state->rows(), cuda::transducer_state::kColumns);
  const std::vector<int64_t> durations = arguments.integers(3, "durations", 0, 1000);
  if (durations.size() > cuda::kMostDurations) {
    throw Error(error_code::kUnsupportedSpec,
                std::to_string(durations.size()) + " durations; on the GPU there can be " + std::to_string(cuda::kMostDurations));
  }
  const int64_t vocabulary = scores->columns() - static_cast<int64_t>(durations.size());
  if (vocabulary < 1) arguments.fail("scores are of no token");
  cuda::TransducerRules rules{static_cast<int>(arguments.integer(1, "blank", 0, vocabulary - 1)), static_cast<int>(vocabulary),
                              static_cast<int>(arguments.integer(2, "maximumSymbols", 1, 1 << 20)), static_cast<int>(durations.size()), {}};
  for (size_t i = 0; i < durations.size(); ++i) rules.durations[i] = static_cast<int>(durations[i]);
  cuda::transducer_decide(*scores, rules, *state, *steps, cuda::default_stream());
  return info.Env().Undefined();
}

}  // namespace

void define_device_transducer(Napi::Object exports) {
  define<lstm>(exports, "deviceTransducerLstm");
  define<join>(exports, "deviceTransducerJoin");
  define<decide>(exports, "deviceTransducerDecide");
}

}  // namespace usmlite::binding
