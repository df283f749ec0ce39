#include "cpu/fake_quantize.hpp"

#include "codec/weight_spec.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

cpu::FakeQuantization quantization_of(const codec::WeightSpec& spec, const Tensor& weight, const Tensor* mask) {
  return {weight.f32(), mask ? mask->data<uint8_t>() : nullptr, weight.dim(0), weight.dim(1), spec};
}

// fakeQuantize(weight (rows, columns), spec, mask?)
Napi::Value fake_quantize(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "fakeQuantize", 2);
  const Tensor& weight = arguments.tensor(0, "weight", DType::kFloat32, {kAny, kAny});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(1, "spec"));
  const Tensor* mask = arguments.optional_tensor(2, "mask", DType::kUint8, {weight.dim(0), weight.dim(1)});
  Tensor output(DType::kFloat32, weight.shape());
  if (spec.is_integer()) {
    cpu::fake_quantize(quantization_of(spec, weight, mask), output.f32());
  } else if (mask) {
    cpu::apply_mask(weight.f32(), mask->data<uint8_t>(), output.f32(), output.count());
  } else {
    arguments.fail("float32 without a mask changes nothing; use the weight itself");
  }
  return TensorHandle::wrap(info.Env(), std::move(output));
}

// fakeQuantizeBackward(outputGradient, weight, spec, mask?, scaleGradient)
Napi::Value fake_quantize_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "fakeQuantizeBackward", 5);
  const Tensor& weight = arguments.tensor(1, "weight", DType::kFloat32, {kAny, kAny});
  const Tensor& gradient = arguments.tensor(0, "outputGradient", DType::kFloat32, {weight.dim(0), weight.dim(1)});
  const codec::WeightSpec spec = codec::parse_weight_spec(arguments.text(2, "spec"));
  const Tensor* mask = arguments.optional_tensor(3, "mask", DType::kUint8, {weight.dim(0), weight.dim(1)});
  Tensor weight_gradient(DType::kFloat32, weight.shape());
  if (spec.is_integer()) {
    cpu::fake_quantize_backward(quantization_of(spec, weight, mask), gradient.f32(),
                                arguments.boolean(4, "scaleGradient"), weight_gradient.f32());
  } else if (mask) {
    cpu::apply_mask(gradient.f32(), mask->data<uint8_t>(), weight_gradient.f32(), gradient.count());
  } else {
    arguments.fail("float32 without a mask changes nothing; use the weight itself");
  }
  return TensorHandle::wrap(info.Env(), std::move(weight_gradient));
}

}  // namespace

void define_fake_quantize(Napi::Object exports) {
  define<fake_quantize>(exports, "fakeQuantize");
  define<fake_quantize_backward>(exports, "fakeQuantizeBackward");
}

}  // namespace usmlite::binding
