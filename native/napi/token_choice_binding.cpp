#include "cpu/token_choice.hpp"

#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"
#include "napi/token_rules_argument.hpp"

namespace usmlite::binding {
namespace {

// chooseTokens(scores (rows, vocabulary), bias (any, vocabulary), rules int32 (rows, 6), count) -> choices (rows, count, 3)
Napi::Value choose_tokens(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "chooseTokens", 4);
  const Tensor& scores = arguments.tensor(0, "scores", DType::kFloat32, {kAny, kAny});
  const int64_t rows = scores.dim(0), vocabulary = scores.dim(1);
  if (vocabulary == 0) arguments.fail("the vocabulary is empty");
  const Tensor& bias = arguments.tensor(1, "bias", DType::kFloat32, {kAny, vocabulary});
  const Tensor& rules = token_rules_argument(arguments, 2, rows, vocabulary, bias.dim(0));
  const int64_t count = arguments.integer(3, "count", 1, kMostTokenChoices);
  Tensor choices(DType::kFloat32, {rows, count, cpu::kTokenChoiceNumbers});
  cpu::choose_tokens(scores.f32(), bias.f32(), reinterpret_cast<const cpu::TokenRules*>(rules.i32()), rows, vocabulary, count, choices.f32());
  return TensorHandle::wrap(arguments.env(), std::move(choices));
}

}  // namespace

void define_token_choice(Napi::Object exports) { define<choose_tokens>(exports, "chooseTokens"); }

}  // namespace usmlite::binding
