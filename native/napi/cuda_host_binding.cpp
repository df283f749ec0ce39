// What the host has of work that goes on without it: page-locked memory that the GPU copies from and to, and events that say how far it is.
#include "cuda/cast.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

// eventCreate()
Napi::Value event_create(const Napi::CallbackInfo& info) {
  return EventObject::wrap(info.Env(), std::make_shared<cuda::driver::Event>());
}

// eventRecord(event, stream?)
Napi::Value event_record(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceEvent.record", 1);
  EventObject::from(arguments, info[0], "event")->record(stream_argument(arguments, info, 1).handle());
  return info.Env().Undefined();
}

// eventDone(event)
Napi::Value event_done(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceEvent.done", 1);
  return Napi::Boolean::New(info.Env(), EventObject::from(arguments, info[0], "event")->done());
}

// eventSynchronize(event)
Napi::Value event_synchronize(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceEvent.synchronize", 1);
  EventObject::from(arguments, info[0], "event")->synchronize();
  return info.Env().Undefined();
}

// eventMilliseconds(event, earlier)
Napi::Value event_milliseconds(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceEvent.millisecondsSince", 2);
  const auto event = EventObject::from(arguments, info[0], "event"), earlier = EventObject::from(arguments, info[1], "earlier");
  return Napi::Number::New(info.Env(), event->milliseconds_since(*earlier));
}

// pinnedCreate(bytes)
Napi::Value pinned_create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "PinnedBuffer", 1);
  const auto bytes = static_cast<size_t>(arguments.integer(0, "bytes", 4, int64_t{1} << 36));
  return PinnedMemoryObject::wrap(info.Env(), std::make_shared<cuda::PinnedMemory>(bytes));
}

// pinnedBytes(pinned): an ArrayBuffer, which keeps the memory for as long as there is it
Napi::Value pinned_bytes(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "PinnedBuffer.values", 1);
  auto* held = new std::shared_ptr<cuda::PinnedMemory>(PinnedMemoryObject::from(arguments, info[0], "pinned"));
  return Napi::ArrayBuffer::New(
      info.Env(), (*held)->data(), (*held)->bytes(), [](Napi::Env, void*, std::shared_ptr<cuda::PinnedMemory>* memory) { delete memory; }, held);
}

/// A tensor of floats, and as many float32 values in a buffer.
struct Copied {
  Copied(const Arguments& arguments, const Napi::CallbackInfo& info)
      : tensor(DeviceTensorObject::from(arguments, info[0], "tensor")), pinned(PinnedMemoryObject::from(arguments, info[1], "pinned")) {
    if (cuda::size_of(tensor->type()) == 1)
      arguments.fail(std::string("the tensor is ") + cuda::name_of(tensor->type()) + "; pinned buffers hold floats");
    const int64_t wanted = tensor->rows() * tensor->columns(), there = static_cast<int64_t>(pinned->bytes() / sizeof(float));
    if (wanted > there) arguments.fail("the tensor has " + std::to_string(wanted) + " values but the buffer has " + std::to_string(there));
  }
  size_t row_bytes() const { return static_cast<size_t>(tensor->columns()) * sizeof(float); }
  size_t rows() const { return static_cast<size_t>(tensor->rows()); }

  std::shared_ptr<DeviceTensor> tensor;
  std::shared_ptr<cuda::PinnedMemory> pinned;
};

size_t stride_bytes(const DeviceTensor& floats) { return static_cast<size_t>(floats.row_stride()) * sizeof(float); }

// deviceTensorWriteFrom(tensor, pinned, stream?): rounded to the tensor's type; returns before it is done
Napi::Value write_from(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.writeFrom", 2);
  const Copied copied(arguments, info);
  const auto stream = stream_argument(arguments, info, 2);
  const bool direct = copied.tensor->type() == DeviceType::kFloat32;
  const DeviceTensor floats = direct ? *copied.tensor : DeviceTensor(DeviceType::kFloat32, copied.tensor->shape(), stream);
  cuda::driver::begin_copy_to_device(floats.use_on<uint8_t>(stream), stride_bytes(floats), copied.pinned->data(), copied.row_bytes(),
                                     copied.row_bytes(), copied.rows(), stream.handle());
  if (!direct) cuda::cast(floats, *copied.tensor, stream);
  copied.pinned->used_on(stream);
  return info.Env().Undefined();
}

// deviceTensorReadInto(tensor, pinned, stream?): as float32; returns before it is done
Napi::Value read_into(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceTensor.readInto", 2);
  const Copied copied(arguments, info);
  const auto stream = stream_argument(arguments, info, 2);
  const bool direct = copied.tensor->type() == DeviceType::kFloat32;
  const DeviceTensor floats = direct ? *copied.tensor : DeviceTensor(DeviceType::kFloat32, copied.tensor->shape(), stream);
  if (!direct) cuda::cast(*copied.tensor, floats, stream);
  cuda::driver::begin_copy_to_host(copied.pinned->data(), copied.row_bytes(), floats.use_on<uint8_t>(stream), stride_bytes(floats),
                                   copied.row_bytes(), copied.rows(), stream.handle());
  copied.pinned->used_on(stream);
  return info.Env().Undefined();
}

}  // namespace

void define_device_host(Napi::Env env, Napi::Object exports) {
  EventObject::define(env, exports, "EventHandle");
  PinnedMemoryObject::define(env, exports, "PinnedMemoryHandle");
  define<event_create>(exports, "eventCreate");
  define<event_record>(exports, "eventRecord");
  define<event_done>(exports, "eventDone");
  define<event_synchronize>(exports, "eventSynchronize");
  define<event_milliseconds>(exports, "eventMilliseconds");
  define<pinned_create>(exports, "pinnedCreate");
  define<pinned_bytes>(exports, "pinnedBytes");
  define<write_from>(exports, "deviceTensorWriteFrom");
  define<read_into>(exports, "deviceTensorReadInto");
}

}  // namespace usmlite::binding
