// The GPU: what it is, its memory, its streams.
#include "cuda/device_memory.hpp"
#include "cuda/host_traffic.hpp"
#include "cuda/kernel_architecture.hpp"
#include "cuda/runtime.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

// gpuStatus(): what the GPU is, or { code, message } when there is none to compute on
Napi::Value gpu_status(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  const cuda::GpuAvailability& availability = cuda::gpu_availability();
  if (availability.code) {
    result.Set("code", availability.code);
    result.Set("message", availability.sentence);
    return result;
  }
  const cuda::GpuProperties& gpu = cuda::gpu_properties();
  result.Set("name", gpu.name);
  result.Set("computeCapability", gpu.compute_capability / 10.0);
  result.Set("multiprocessors", gpu.multiprocessors);
  result.Set("memoryBytes", static_cast<double>(gpu.memory_bytes));
  result.Set("cacheBytes", static_cast<double>(gpu.second_level_cache_bytes));
  result.Set("driverVersion", gpu.driver_version / 1000 + gpu.driver_version % 1000 / 10 / 10.0);
  result.Set("runtimeVersion", gpu.runtime_version / 1000 + gpu.runtime_version % 1000 / 10 / 10.0);
  result.Set("emulated", gpu.emulated);
  return result;
}

// gpuFreeMemory(): bytes the driver has left, for all processes
Napi::Value free_memory(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(cuda::driver::free_memory()));
}

Napi::Value memory_statistics(const Napi::CallbackInfo& info) {
  const MemoryStatistics statistics = cuda::device_allocator::statistics();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("bytesInUse", static_cast<double>(statistics.bytes_in_use));
  result.Set("peakBytes", static_cast<double>(statistics.peak_bytes));
  result.Set("bytesCached", static_cast<double>(statistics.bytes_cached));
  result.Set("allocations", static_cast<double>(statistics.allocations));
  return result;
}

Napi::Value host_traffic(const Napi::CallbackInfo& info) {
  const cuda::HostTraffic& traffic = cuda::host_traffic;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("copiesToGpu", static_cast<double>(traffic.to_device.count));
  result.Set("bytesToGpu", static_cast<double>(traffic.to_device.bytes));
  result.Set("copiesToHost", static_cast<double>(traffic.to_host.count));
  result.Set("bytesToHost", static_cast<double>(traffic.to_host.bytes));
  result.Set("waits", static_cast<double>(traffic.waits));
  return result;
}

Napi::Value reset_peak_memory(const Napi::CallbackInfo& info) {
  cuda::device_allocator::reset_peak();
  return info.Env().Undefined();
}

Napi::Value trim_memory(const Napi::CallbackInfo& info) {
  cuda::device_allocator::trim();
  return info.Env().Undefined();
}

// limitKernelArchitecture(limit): 80, 89 or 90, 0 for none
Napi::Value limit_kernel_architecture(const Napi::CallbackInfo& info) {
  cuda::limit_kernel_architecture(static_cast<int>(Arguments(info, "limitKernelArchitecture", 1).integer(0, "limit", 0, 90)));
  return info.Env().Undefined();
}

// streamCreate()
Napi::Value stream_create(const Napi::CallbackInfo& info) {
  return StreamObject::wrap(info.Env(), std::make_shared<cuda::Stream>());
}

// streamSynchronize(stream?)
Napi::Value stream_synchronize(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceStream.synchronize", 0);
  stream_argument(arguments, info, 0).synchronize();
  return info.Env().Undefined();
}

}  // namespace

void define_gpu(Napi::Env env, Napi::Object exports) {
  StreamObject::define(env, exports, "StreamHandle");
  DeviceTensorObject::define(env, exports, "DeviceTensorHandle");
  DeviceWeightObject::define(env, exports, "DeviceWeightHandle");
  define<gpu_status>(exports, "gpuStatus");
  define<free_memory>(exports, "gpuFreeMemory");
  define<memory_statistics>(exports, "gpuMemoryStatistics");
  define<host_traffic>(exports, "gpuHostTraffic");
  define<reset_peak_memory>(exports, "gpuResetPeakMemory");
  define<trim_memory>(exports, "gpuTrimMemory");
  define<limit_kernel_architecture>(exports, "limitKernelArchitecture");
  define<stream_create>(exports, "streamCreate");
  define<stream_synchronize>(exports, "streamSynchronize");
}

}  // namespace usmlite::binding
