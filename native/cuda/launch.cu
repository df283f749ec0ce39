#include "cuda/launch.hpp"

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace usmlite::cuda {

namespace {

/// What a kernel may use without asking.
constexpr size_t kFreeSharedBytes = 48 * 1024;

void check(cudaError_t code, const LaunchShape& shape) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // a failed launch leaves its error behind
  if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction) {
    const int capability = gpu_properties().compute_capability;
    const std::string version = std::to_string(capability / 10) + "." + std::to_string(capability % 10);
    const std::string architecture = capability == 90 ? "90a" : std::to_string(capability);
    throw Error(error_code::kNoGpu, std::string("this build has no code for ") + gpu_properties().name + ", compute capability " + version +
                                        ": build the package again with USMLITE_CUDA_ARCHITECTURES=" + architecture + ", or compute on the CPU");
  }
  if (code == cudaErrorUnsupportedPtxVersion) {
    throw Error(error_code::kDriverTooOld, "this GPU is newer than the kernels of this build, which its driver is too old to translate: update the "
                                           "driver, or build the package again with USMLITE_CUDA_ARCHITECTURES=" +
                                               std::to_string(gpu_properties().compute_capability));
  }
  throw Error(error_code::kGpuFailed,
              std::string("the kernel of ") + shape.where.function_name() + " could not be started: " + cudaGetErrorString(code));
}

/// Lets a kernel use that much shared memory, asking the driver only when it needs more than it was given before.
void allow_shared_memory(const void* kernel, const LaunchShape& shape) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, size_t> allowed;  // per kernel and device
  int device = 0;
  check(cudaGetDevice(&device), shape);
  const std::lock_guard lock(mutex);
  size_t& bytes = allowed.try_emplace({kernel, device}, kFreeSharedBytes).first->second;
  if (shape.shared_bytes <= bytes) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)), shape);
  bytes = shape.shared_bytes;
}

}  // namespace

void launch_on_device(const void* kernel, const LaunchShape& shape, StreamHandle stream, void** arguments) {
  if (shape.shared_bytes > kFreeSharedBytes) allow_shared_memory(kernel, shape);
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = dim3(shape.grid_x, shape.grid_y, shape.grid_z);
  configuration.blockDim = dim3(shape.threads, 1, 1);
  configuration.dynamicSmemBytes = shape.shared_bytes;
  configuration.stream = static_cast<cudaStream_t>(stream);
  configuration.attrs = attributes;
  if (shape.cluster_x > 1) {
    cudaLaunchAttribute& attribute = attributes[configuration.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = shape.cluster_x;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  }
  if (shape.overlaps_previous) {
    cudaLaunchAttribute& attribute = attributes[configuration.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelExC(&configuration, kernel, arguments), shape);
}

}  // namespace usmlite::cuda
