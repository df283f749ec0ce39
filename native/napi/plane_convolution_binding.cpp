#include "cpu/plane_convolution.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kLargest = 1 << 20;

// The convolution that arguments x, weight, bias, offsets, outputOffsets, features, stride, padding, relu describe. x (frames, features
// * input channels); the weight (channels, 1, kernel, kernel) tells how many.
cpu::PlaneConvolution convolution_of(const Arguments& arguments) {
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, 1, kAny, kAny});
  cpu::PlaneConvolution p;
  p.channels = weight.dim(0);
  p.kernel = weight.dim(2);
  if (p.kernel < 1 || weight.dim(3) != p.kernel) arguments.fail("weight must have a square kernel but has shape " + shape_text(weight.shape()));
  arguments.tensor(2, "bias", DType::kFloat32, {p.channels});
  p.features = arguments.integer(5, "features", 1, kLargest);
  p.stride = arguments.integer(6, "stride", 1, kLargest);
  p.padding = arguments.integer(7, "padding", 0, p.kernel - 1);
  p.relu = arguments.boolean(8, "relu");
  p.shared_input = x.dim(1) == p.features;
  if (!p.shared_input && x.dim(1) != p.features * p.channels) {
    arguments.fail("x must have " + std::to_string(p.features) + " features of 1 or " + std::to_string(p.channels) + " channels but has shape " +
                   shape_text(x.shape()));
  }
  const auto extent = [&](int64_t length) {
    return length + 2 * p.padding < p.kernel ? 0 : (length + 2 * p.padding - p.kernel) / p.stride + 1;
  };
  p.output_features = extent(p.features);
  const Tensor& offsets = arguments.offsets(3, "offsets", x.dim(0));
  const Tensor& output_offsets = arguments.tensor(4, "outputOffsets", DType::kInt32, {offsets.count()});
  p.sequences = offsets.count() - 1;
  p.offsets = offsets.i32();
  p.output_offsets = output_offsets.i32();
  int64_t output_frames = 0;
  for (int64_t i = 0; i <= p.sequences; ++i) {
    if (i > 0 && p.offsets[i] > p.offsets[i - 1]) output_frames += extent(p.offsets[i] - p.offsets[i - 1]);
    if (p.output_offsets[i] != output_frames) arguments.fail("outputOffsets must be those of the frames that the convolution makes");
  }
  return p;
}

// planeConvolution(what convolution_of takes) -> tensor (output frames, output features * channels)
Napi::Value plane_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "planeConvolution", 9);
  const cpu::PlaneConvolution p = convolution_of(arguments);
  Tensor y(DType::kFloat32, {p.output_offsets[p.sequences], p.output_features * p.channels});
  cpu::plane_convolution(p, arguments.any_tensor(0, "x").f32(), arguments.any_tensor(1, "weight").f32(),
                         arguments.any_tensor(2, "bias").f32(), y.f32());
  return TensorHandle::wrap(info.Env(), std::move(y));
}

// planeConvolutionBackward(what convolution_of takes, y, gradient, wantsX) -> gradients of [x?, weight, bias]
Napi::Value plane_convolution_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "planeConvolutionBackward", 12);
  const cpu::PlaneConvolution p = convolution_of(arguments);
  const Tensor &x = arguments.any_tensor(0, "x"), &weight = arguments.any_tensor(1, "weight");
  const Tensor& y = arguments.tensor(9, "y", DType::kFloat32, {p.output_offsets[p.sequences], p.output_features * p.channels});
  const Tensor& gradient = arguments.tensor(10, "gradient", DType::kFloat32, {y.dim(0), y.dim(1)});
  const Tensor gradient_x = tensor_if(arguments.boolean(11, "wantsX"), x.shape());
  const Tensor gradient_weight(DType::kFloat32, weight.shape()), gradient_bias(DType::kFloat32, {p.channels});
  cpu::plane_convolution_backward(p, x.f32(), y.f32(), weight.f32(), gradient.f32(), data_or_null(gradient_x), gradient_weight.f32(),
                                  gradient_bias.f32());
  return wrap_all(info.Env(), {gradient_x, gradient_weight, gradient_bias});
}

}  // namespace

void define_plane_convolution(Napi::Object exports) {
  define<plane_convolution>(exports, "planeConvolution");
  define<plane_convolution_backward>(exports, "planeConvolutionBackward");
}

}  // namespace usmlite::binding
