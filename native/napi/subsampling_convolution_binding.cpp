#include "cpu/subsampling_convolution.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/packed_matrix_binding.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

using cpu::Activation;
using cpu::SubsamplingConvolution;

constexpr int64_t kLargestStride = 1 << 20;

// Arguments from `index` on: offsets, outputOffsets, stride. The weight is (out, in, kernel).
SubsamplingConvolution convolution_of(const Arguments& arguments, size_t index, int64_t in, int64_t out, int64_t kernel,
                                      int64_t frames, int64_t output_frames) {
  SubsamplingConvolution c;
  c.in = in;
  c.out = out;
  c.kernel = kernel;
  if (kernel < 1) arguments.fail("the kernel must cover at least one frame");
  c.stride = arguments.integer(index + 2, "stride", 1, kLargestStride);
  const Tensor& offsets = arguments.offsets(index, "offsets", frames);
  const Tensor& output_offsets = arguments.offsets(index + 1, "outputOffsets", output_frames);
  if (offsets.count() != output_offsets.count()) arguments.fail("offsets and outputOffsets differ in length");
  c.sequences = offsets.count() - 1;
  c.offsets = offsets.i32();
  c.output_offsets = output_offsets.i32();
  for (int64_t i = 0; i < c.sequences; ++i) {
    const int64_t length = c.offsets[i + 1] - c.offsets[i];
    const int64_t expected = length < kernel ? 0 : (length - kernel) / c.stride + 1;
    if (c.output_offsets[i + 1] - c.output_offsets[i] != expected) {
      arguments.fail("sequence " + std::to_string(i) + " of " + std::to_string(length) + " frames makes " +
                     std::to_string(expected) + " output frames, which outputOffsets contradict");
    }
  }
  return c;
}

int64_t last_offset(const Arguments& arguments, size_t index, const char* name) {
  const Tensor& offsets = arguments.tensor(index, name, DType::kInt32, {kAny});
  return offsets.count() ? offsets.i32()[offsets.count() - 1] : 0;
}

Activation activation_of(const Arguments& arguments, size_t index) {
  const std::string activation = arguments.text(index, "activation");
  if (activation != "none" && activation != "relu") {
    arguments.fail("activation \"" + activation + "\" is unknown; choose none or relu");
  }
  return activation == "relu" ? Activation::kRelu : Activation::kNone;
}

// subsamplingConvolution(x, weight, bias?, offsets, outputOffsets, stride, activation): output
Napi::Value subsampling_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "subsamplingConvolution", 7);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, x.dim(1), kAny});
  const int64_t out = weight.dim(0);
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {out});
  const int64_t output_frames = last_offset(arguments, 4, "outputOffsets");
  const SubsamplingConvolution c =
      convolution_of(arguments, 3, x.dim(1), out, weight.dim(2), x.dim(0), output_frames);
  const Activation activation = activation_of(arguments, 6);
  Tensor output(DType::kFloat32, {output_frames, out});
  cpu::subsampling_convolution(c, x.f32(), weight.f32(), bias ? bias->f32() : nullptr, activation, output.f32());
  return TensorHandle::wrap(info.Env(), std::move(output));
}

// packedSubsamplingConvolution(x, matrix, bias?, offsets, outputOffsets, stride, activation): output. The kernel is as
// long as the inputs of the matrix (out, kernel * in) say.
Napi::Value packed_subsampling_convolution(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "packedSubsamplingConvolution", 7);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const auto weight = PackedMatrixHandle::from(arguments, info[1]);
  const int64_t in = x.dim(1), out = weight->rows();
  if (in < 1 || weight->columns() % in != 0) {
    arguments.fail("the weight takes windows of " + std::to_string(weight->columns()) + " values, which is no multiple of the " +
                   std::to_string(in) + " features of x");
  }
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {out});
  const int64_t output_frames = last_offset(arguments, 4, "outputOffsets");
  const SubsamplingConvolution c =
      convolution_of(arguments, 3, in, out, weight->columns() / in, x.dim(0), output_frames);
  const Activation activation = activation_of(arguments, 6);
  Tensor output(DType::kFloat32, {output_frames, out});
  cpu::packed_subsampling_convolution(c, x.f32(), *weight, bias ? bias->f32() : nullptr, activation, output.f32());
  return TensorHandle::wrap(info.Env(), std::move(output));
}

// subsamplingConvolutionInputGradient(gradient, weight, offsets, outputOffsets, stride): xGradient
Napi::Value input_gradient(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "subsamplingConvolutionInputGradient", 5);
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, kAny, kAny});
  const Tensor& gradient = arguments.tensor(0, "gradient", DType::kFloat32, {kAny, weight.dim(0)});
  const int64_t frames = last_offset(arguments, 2, "offsets");
  const SubsamplingConvolution c =
      convolution_of(arguments, 2, weight.dim(1), weight.dim(0), weight.dim(2), frames, gradient.dim(0));
  Tensor x_gradient(DType::kFloat32, {frames, c.in});
  cpu::subsampling_convolution_input_gradient(c, gradient.f32(), weight.f32(), x_gradient.f32());
  return TensorHandle::wrap(info.Env(), std::move(x_gradient));
}

// subsamplingConvolutionWeightGradient(gradient, x, offsets, outputOffsets, stride, kernel): weightGradient
Napi::Value weight_gradient(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "subsamplingConvolutionWeightGradient", 6);
  const Tensor& gradient = arguments.tensor(0, "gradient", DType::kFloat32, {kAny, kAny});
  const Tensor& x = arguments.tensor(1, "x", DType::kFloat32, {kAny, kAny});
  const int64_t kernel = arguments.integer(5, "kernel", 1, kLargestStride);
  const SubsamplingConvolution c =
      convolution_of(arguments, 2, x.dim(1), gradient.dim(1), kernel, x.dim(0), gradient.dim(0));
  Tensor weight_gradient(DType::kFloat32, {c.out, c.in, c.kernel});
  cpu::subsampling_convolution_weight_gradient(c, gradient.f32(), x.f32(), weight_gradient.f32());
  return TensorHandle::wrap(info.Env(), std::move(weight_gradient));
}

}  // namespace

void define_subsampling_convolution(Napi::Object exports) {
  define<subsampling_convolution>(exports, "subsamplingConvolution");
  define<packed_subsampling_convolution>(exports, "packedSubsamplingConvolution");
  define<input_gradient>(exports, "subsamplingConvolutionInputGradient");
  define<weight_gradient>(exports, "subsamplingConvolutionWeightGradient");
}

}  // namespace usmlite::binding
