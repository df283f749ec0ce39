#include "cpu/matmul.hpp"

#include "cpu/linear_gradient.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

using cpu::Activation;
using cpu::LinearGradient;
using cpu::MatmulEpilogue;

// A weight (out, in) or, as a pointwise convolution stores it, (out, in, 1).
const Tensor& weight_matrix(const Arguments& arguments, size_t index, int64_t in) {
  const Tensor& weight = arguments.tensor(index, "weight", DType::kFloat32);
  const bool matrix = weight.rank() == 2 || (weight.rank() == 3 && weight.dim(2) == 1);
  if (!matrix) arguments.fail("weight must have shape (out, in) or (out, in, 1) but has " + shape_text(weight.shape()));
  if (weight.dim(1) != in) {
    arguments.fail("weight " + shape_text(weight.shape()) + " takes " + std::to_string(weight.dim(1)) +
                   " features but x has " + std::to_string(in));
  }
  return weight;
}

// linear(x, weight, bias?, activation, scale, residual?, residualScale, dropoutProbability, seed, keepPreActivation):
// [output] or [output, preActivation]
Napi::Value linear(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "linear", 10);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const int64_t frames = x.dim(0), in = x.dim(1);
  const Tensor& weight = weight_matrix(arguments, 1, in);
  const int64_t out = weight.dim(0);
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {out});
  const Tensor* residual = arguments.optional_tensor(5, "residual", DType::kFloat32, {frames, out});

  MatmulEpilogue epilogue;
  epilogue.bias = bias ? bias->f32() : nullptr;
  epilogue.activation = activation_argument(arguments, 3);
  epilogue.scale = factor_argument(arguments, 4, "scale");
  epilogue.residual = residual ? residual->f32() : nullptr;
  epilogue.residual_scale = factor_argument(arguments, 6, "residualScale");
  epilogue.dropout = arguments.dropout(7);

  Tensor output(DType::kFloat32, {frames, out});
  Napi::Array results = Napi::Array::New(info.Env());
  Tensor pre_activation;
  if (arguments.boolean(9, "keepPreActivation")) {
    pre_activation = Tensor(DType::kFloat32, {frames, out});
    epilogue.pre_activation = pre_activation.f32();
  }
  cpu::matmul(false, true, frames, out, in, x.f32(), in, weight.f32(), in, 0.0f, output.f32(), out, epilogue);
  results.Set(0u, TensorHandle::wrap(info.Env(), std::move(output)));
  if (epilogue.pre_activation) results.Set(1u, TensorHandle::wrap(info.Env(), std::move(pre_activation)));
  return results;
}

// linearGradient(gradient, preActivation?, activation, scale, dropoutProbability, seed, wantSum, wantBias):
// [sumGradient | undefined, biasGradient | undefined]
Napi::Value linear_gradient(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "linearGradient", 8);
  const Tensor& gradient = arguments.tensor(0, "gradient", DType::kFloat32, {kAny, kAny});
  LinearGradient layer;
  layer.frames = gradient.dim(0);
  layer.features = gradient.dim(1);
  layer.gradient = gradient.f32();
  const Tensor* pre_activation =
      arguments.optional_tensor(1, "preActivation", DType::kFloat32, {layer.frames, layer.features});
  layer.activation = activation_argument(arguments, 2);
  if (layer.activation != Activation::kNone && !pre_activation) {
    arguments.fail("preActivation is needed for the gradient of an activation");
  }
  layer.pre_activation = pre_activation ? pre_activation->f32() : nullptr;
  layer.scale = factor_argument(arguments, 3, "scale");
  layer.dropout = arguments.dropout(4);

  Tensor sum_gradient, bias_gradient;
  if (arguments.boolean(6, "wantSum")) sum_gradient = Tensor(DType::kFloat32, gradient.shape());
  if (arguments.boolean(7, "wantBias")) bias_gradient = Tensor(DType::kFloat32, {layer.features});
  cpu::linear_gradient(layer, sum_gradient.storage() ? sum_gradient.f32() : nullptr,
                       bias_gradient.storage() ? bias_gradient.f32() : nullptr);
  Napi::Array results = Napi::Array::New(info.Env(), 2);
  if (sum_gradient.storage()) results.Set(0u, TensorHandle::wrap(info.Env(), std::move(sum_gradient)));
  if (bias_gradient.storage()) results.Set(1u, TensorHandle::wrap(info.Env(), std::move(bias_gradient)));
  return results;
}

// matmul(a, transposeA, b, transposeB, scale, sum?): scale * op(a) . op(b), added to `sum` in place when that is given.
Napi::Value matmul(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "matmul", 5);
  const Tensor& a = arguments.tensor(0, "a", DType::kFloat32, {kAny, kAny});
  const bool transpose_a = arguments.boolean(1, "transposeA");
  const Tensor& b = arguments.tensor(2, "b", DType::kFloat32, {kAny, kAny});
  const bool transpose_b = arguments.boolean(3, "transposeB");
  const int64_t m = a.dim(transpose_a ? 1 : 0), k = a.dim(transpose_a ? 0 : 1);
  const int64_t n = b.dim(transpose_b ? 0 : 1), b_depth = b.dim(transpose_b ? 1 : 0);
  if (k != b_depth) {
    arguments.fail("shapes " + shape_text(a.shape()) + (transpose_a ? " transposed and " : " and ") +
                   shape_text(b.shape()) + (transpose_b ? " transposed" : "") + " do not multiply: " +
                   std::to_string(k) + " columns against " + std::to_string(b_depth) + " rows");
  }
  MatmulEpilogue epilogue;
  epilogue.scale = factor_argument(arguments, 4, "scale");
  const Tensor* sum = arguments.optional_tensor(5, "sum", DType::kFloat32, {m, n});
  Tensor product = sum ? *sum : Tensor(DType::kFloat32, {m, n});
  cpu::matmul(transpose_a, transpose_b, m, n, k, a.f32(), a.dim(1), b.f32(), b.dim(1), sum ? 1.0f : 0.0f,
              product.f32(), n, epilogue);
  return sum ? info.Env().Undefined() : TensorHandle::wrap(info.Env(), std::move(product));
}

}  // namespace

void define_matmul(Napi::Object exports) {
  define<linear>(exports, "linear");
  define<linear_gradient>(exports, "linearGradient");
  define<matmul>(exports, "matmul");
}

}  // namespace usmlite::binding
