// Adapters of many speakers on the GPU.
#include <string>
#include <vector>

#include "cuda/low_rank.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_operands.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;

cuda::Activation low_rank_activation(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "activation");
  if (name == "none") return cuda::Activation::kNone;
  if (name == "silu") return cuda::Activation::kSilu;
  if (name == "relu") return cuda::Activation::kRelu;
  arguments.fail("activation \"" + name + "\" is unknown; choose none, silu or relu");
}

/// float32 matrices, kept while the call lasts.
std::vector<std::shared_ptr<DeviceTensor>> factors(const Arguments& arguments, Napi::Value list, const std::string& name, int64_t columns) {
  if (!list.IsArray()) arguments.fail(name + " must be an array of tensors on the GPU");
  const auto array = list.As<Napi::Array>();
  std::vector<std::shared_ptr<DeviceTensor>> result;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    result.push_back(DeviceTensorObject::from(arguments, array.Get(i), name + "[" + std::to_string(i) + "]"));
    const DeviceTensor& tensor = *result.back();
    if (tensor.type() != cuda::DeviceType::kFloat32 || tensor.shape().size() != 2 || tensor.columns() != columns || tensor.rows() < 1 ||
        tensor.rows() > cuda::kLargestRank) {
      arguments.fail(name + "[" + std::to_string(i) + "] is " + cuda::name_of(tensor.type()) + " " + shape_text(tensor.shape()) +
                     "; it must be float32 (rank, " + std::to_string(columns) + ") of a rank from 1 to " + std::to_string(cuda::kLargestRank));
    }
  }
  return result;
}

// deviceLowRankAdd(y, x, offsets, down, up, which, scale, activation, stream?): as lowRankAdd, with y, x and the factors on the GPU
Napi::Value low_rank_add(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLowRankAdd", 8);
  Operands operands(arguments, info);
  const DeviceTensor& y = operands.floats(0, "y");
  const DeviceTensor& x = operands.like(1, "x", y, {y.rows(), DeviceTensorObject::from(arguments, info[1], "x")->columns()});
  const Tensor& offsets = arguments.offsets(2, "offsets", y.rows());
  const auto down = factors(arguments, info[3], "down", x.columns()), up = factors(arguments, info[4], "up", y.columns());
  if (down.size() != up.size()) arguments.fail("down and up must be of the same number");
  for (size_t i = 0; i < down.size(); ++i) {
    if (down[i]->rows() != up[i]->rows()) {
      arguments.fail("factors " + std::to_string(i) + " have ranks " + std::to_string(down[i]->rows()) + " and " + std::to_string(up[i]->rows()));
    }
  }
  const std::vector<int64_t> which = arguments.integers(5, "which", -1, static_cast<int64_t>(down.size()) - 1);
  if (static_cast<int64_t>(which.size()) + 1 != offsets.dim(0)) {
    arguments.fail("which must have a number for each of " + std::to_string(offsets.dim(0) - 1) + " runs of rows");
  }
  std::vector<cuda::LowRankSegment> segments;
  for (size_t i = 0; i < which.size(); ++i) {
    const auto factor = static_cast<size_t>(which[i]);
    segments.push_back(
        {offsets.i32()[i], offsets.i32()[i + 1], which[i] < 0 ? nullptr : down[factor].get(), which[i] < 0 ? nullptr : up[factor].get()});
  }
  const float scale = factor_argument(arguments, 6, "scale");
  cuda::low_rank_add(segments, x, y, scale, low_rank_activation(arguments, 7), stream_argument(arguments, info, 8));
  return info.Env().Undefined();
}

}  // namespace

void define_device_low_rank(Napi::Object exports) { define<low_rank_add>(exports, "deviceLowRankAdd"); }

}  // namespace usmlite::binding
