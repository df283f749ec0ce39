// Tensors in the memory of the GPU: made, filled, copied there and back.
#include "cuda/cast.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"
#include "napi/tensor_description.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kMaximumExtent = int64_t{1} << 31;

std::vector<int64_t> shape_argument(const Arguments& arguments, size_t index) {
  std::vector<int64_t> shape = arguments.integers(index, "shape", 0, kMaximumExtent);
  if (shape.empty() || shape.size() > 2) arguments.fail("shape " + shape_text(shape) + ": a tensor on the GPU has one or two axes");
  return shape;
}

cuda::DeviceType type_argument(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "type");
  for (cuda::DeviceType type : {cuda::DeviceType::kFloat32, cuda::DeviceType::kBFloat16, cuda::DeviceType::kFloat16,
                                cuda::DeviceType::kInt8, cuda::DeviceType::kFloat8}) {
    if (name == cuda::name_of(type)) return type;
  }
  arguments.fail("type \"" + name + "\" is unknown; choose float32, bfloat16, float16, int8 or float8");
}

// deviceTensorCreate(shape, type, byte, stream?): every byte is `byte`
Napi::Value create_device_tensor(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.create", 3);
  const auto stream = stream_argument(arguments, info, 3);
  cuda::DeviceTensor tensor(type_argument(arguments, 1), shape_argument(arguments, 0), stream);
  const auto byte = static_cast<uint8_t>(arguments.integer(2, "byte", 0, 255));
  if (tensor.memory()->bytes()) cuda::driver::fill(tensor.use_on<uint8_t>(stream), byte, tensor.memory()->bytes(), stream.handle());
  return wrap(info.Env(), std::move(tensor));
}

// deviceTensorUpload(values float32 (rows, columns) or (columns), type, stream?); uint8 values become int8
Napi::Value upload(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.from", 2);
  const cuda::DeviceType type = type_argument(arguments, 1);
  const bool bytes = type == cuda::DeviceType::kInt8 && arguments.any_tensor(0, "values").dtype() == DType::kUint8;
  const Tensor& values = arguments.tensor(0, "values", bytes ? DType::kUint8 : DType::kFloat32);
  if (values.rank() < 1 || values.rank() > 2) {
    arguments.fail("values have shape " + shape_text(values.shape()) + "; a tensor on the GPU has one or two axes");
  }
  const auto stream = stream_argument(arguments, info, 2);
  if (bytes) {
    cuda::DeviceTensor placed(type, values.shape(), stream);
    cuda::upload_bytes(placed, values.data<uint8_t>(), stream);
    return wrap(info.Env(), std::move(placed));
  }
  if (cuda::size_of(type) == 1) {
    arguments.fail(std::string("floats become ") + cuda::name_of(type) + " with a scale per row: use quantizeRows");
  }
  return wrap(info.Env(), cuda::upload(values, type, stream));
}

// deviceTensorCast(tensor, type, stream?): float32 to bfloat16 or float16, or back
Napi::Value cast(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.cast", 2);
  const auto tensor = DeviceTensorObject::from(arguments, info[0], "tensor");
  const cuda::DeviceType type = type_argument(arguments, 1);
  const auto is_wide = [](cuda::DeviceType t) { return t == cuda::DeviceType::kFloat32; };
  if (is_wide(tensor->type()) == is_wide(type) || cuda::size_of(type) == 1 || cuda::size_of(tensor->type()) == 1) {
    arguments.fail(std::string("from ") + cuda::name_of(tensor->type()) + " to " + cuda::name_of(type) +
                   ": casts are between float32 and bfloat16 or float16");
  }
  const auto stream = stream_argument(arguments, info, 2);
  cuda::DeviceTensor result(type, tensor->shape(), stream);
  cuda::cast(*tensor, result, stream);
  return wrap(info.Env(), std::move(result));
}

// deviceTensorDownload(tensor, stream?): float32, int8 or (float8) uint8, on the host; waits
Napi::Value download(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.toTensor", 1);
  const auto tensor = DeviceTensorObject::from(arguments, info[0], "tensor");
  return TensorHandle::wrap(info.Env(), cuda::download(*tensor, stream_argument(arguments, info, 1)));
}

// deviceTensorReshape(tensor, shape): the same memory
Napi::Value reshape(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.reshape", 2);
  const auto tensor = DeviceTensorObject::from(arguments, info[0], "tensor");
  std::vector<int64_t> shape = shape_argument(arguments, 1);
  int64_t elements = 1;
  for (int64_t extent : shape) elements *= extent;
  if (elements != tensor->rows() * tensor->columns()) {
    arguments.fail("shape " + shape_text(tensor->shape()) + " cannot become " + shape_text(shape) + ", which has other elements");
  }
  return wrap(info.Env(), tensor->reshaped(std::move(shape)));
}

// deviceTensorRows(tensor, begin, end): the same memory
Napi::Value rows(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.rows", 3);
  const auto tensor = DeviceTensorObject::from(arguments, info[0], "tensor");
  if (tensor->shape().size() != 2) arguments.fail("the tensor has shape " + shape_text(tensor->shape()) + "; only a matrix has rows");
  const int64_t begin = arguments.integer(1, "begin", 0, tensor->rows());
  return wrap(info.Env(), tensor->slice(begin, arguments.integer(2, "end", begin, tensor->rows())));
}

// deviceTensorColumns(tensor, begin, end): the same memory, multiples of 16 bytes
Napi::Value columns(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceColumns", 3);
  const auto tensor = DeviceTensorObject::from(arguments, info[0], "tensor");
  const int64_t begin = arguments.integer(1, "begin", 0, tensor->columns()), end = arguments.integer(2, "end", begin, tensor->columns());
  const auto element = static_cast<int64_t>(cuda::size_of(tensor->type()));
  if (begin * element % 16 != 0 || end * element % 16 != 0) {
    arguments.fail("columns " + std::to_string(begin) + " to " + std::to_string(end) + " do not begin and end at multiples of 16 bytes");
  }
  return wrap(info.Env(), tensor->column_range(begin, end));
}

// deviceTensorCopy(from, to, stream?): into the first rows of `to`, or of a vector into the first elements
Napi::Value copy(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.copyTo", 2);
  const auto from = DeviceTensorObject::from(arguments, info[0], "from"), to = DeviceTensorObject::from(arguments, info[1], "to");
  const bool vectors = from->shape().size() == 1 && to->shape().size() == 1;
  const bool fits = vectors ? from->columns() <= to->columns() : from->columns() == to->columns() && from->rows() <= to->rows();
  if (from->type() != to->type() || !fits) {
    arguments.fail(std::string(cuda::name_of(from->type())) + " " + shape_text(from->shape()) + " does not fit into " +
                   cuda::name_of(to->type()) + " " + shape_text(to->shape()));
  }
  const auto stream = stream_argument(arguments, info, 2);
  const auto bytes = static_cast<size_t>(vectors ? from->columns() : from->rows() * from->row_stride()) * cuda::size_of(from->type());
  if (bytes) cuda::driver::copy_on_device(to->use_on<uint8_t>(stream), from->use_on<uint8_t>(stream), bytes, stream.handle());
  return info.Env().Undefined();
}

// deviceTensorDescribe(tensor, numbers): as tensorDescribe; bytes are those of its memory
Napi::Value describe_device_tensor(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.describe", 2);
  const auto tensor = DeviceTensorObject::from(arguments, info[0], "tensor");
  write_description(arguments, 1, static_cast<int>(tensor->type()), tensor->memory()->bytes(), tensor->shape());
  return info.Env().Undefined();
}

}  // namespace

void define_device_tensor(Napi::Object exports) {
  define<create_device_tensor>(exports, "deviceTensorCreate");
  define<upload>(exports, "deviceTensorUpload");
  define<cast>(exports, "deviceTensorCast");
  define<download>(exports, "deviceTensorDownload");
  define<reshape>(exports, "deviceTensorReshape");
  define<rows>(exports, "deviceTensorRows");
  define<columns>(exports, "deviceTensorColumns");
  define<copy>(exports, "deviceTensorCopy");
  define<describe_device_tensor>(exports, "deviceTensorDescribe");
}

}  // namespace usmlite::binding
