// Recorded work of the GPU.
#include "cuda/recording.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

// recordingCreate(work): what the function gives to the default stream
Napi::Value create_recording(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Recording", 1);
  if (!info[0].IsFunction()) arguments.fail("work must be a function");
  const auto work = info[0].As<Napi::Function>();
  return RecordingObject::wrap(info.Env(), std::make_shared<cuda::Recording>([&] { work.Call({}); }));
}

// recordingRun(recording)
Napi::Value run(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Recording.run", 1);
  RecordingObject::from(arguments, info[0], "recording")->run();
  return info.Env().Undefined();
}

// recordingOperations(recording)
Napi::Value operations(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Recording.operations", 1);
  return Napi::Number::New(info.Env(), static_cast<double>(RecordingObject::from(arguments, info[0], "recording")->operations()));
}

}  // namespace

void define_device_recording(Napi::Env env, Napi::Object exports) {
  RecordingObject::define(env, exports, "RecordingHandle");
  define<create_recording>(exports, "recordingCreate");
  define<run>(exports, "recordingRun");
  define<operations>(exports, "recordingOperations");
}

}  // namespace usmlite::binding
