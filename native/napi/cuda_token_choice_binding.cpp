// The likeliest tokens that may come next.
#include "cuda/device_sequences.hpp"
#include "cuda/token_choice.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"
#include "napi/token_rules_argument.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// deviceChooseTokens(scores (rows, vocabulary), bias float32 (any, vocabulary), rules int32 (rows, 6), count, stream?): float32 (rows, count * 3)
Napi::Value choose_tokens(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceChooseTokens", 4);
  Operands operands(arguments, info);
  const DeviceTensor& scores = operands.floats(0, "scores");
  const int64_t rows = scores.rows(), vocabulary = scores.columns();
  if (vocabulary == 0) arguments.fail("the vocabulary is empty");
  const DeviceTensor& bias = operands.singles(1, "bias");
  if (bias.columns() != vocabulary) {
    arguments.fail("bias has shape " + shape_text(bias.shape()) + "; it must have " + std::to_string(vocabulary) + " columns");
  }
  const Tensor& rules = token_rules_argument(arguments, 2, rows, vocabulary, bias.rows());
  const int64_t count = arguments.integer(3, "count", 1, kMostTokenChoices);
  const auto stream = stream_argument(arguments, info, 4);
  DeviceTensor choices(DeviceType::kFloat32, {rows, count * cpu::kTokenChoiceNumbers}, stream);
  if (rows > 0) {
    const std::vector<int32_t> numbers(rules.i32(), rules.i32() + rules.count());
    cuda::DeviceSequences placed({0, static_cast<int32_t>(numbers.size())}, numbers, stream);
    cuda::choose_tokens({&scores, &bias, placed.use_on(stream), static_cast<int>(count), &choices}, stream);
  }
  return wrap(info.Env(), std::move(choices));
}

}  // namespace

void define_device_token_choice(Napi::Object exports) { define<choose_tokens>(exports, "deviceChooseTokens"); }

}  // namespace usmlite::binding
