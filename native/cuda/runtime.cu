#include "cuda/recorded_work.hpp"

#include <cuda_runtime.h>

#include <mutex>
#include <shared_mutex>
#include <string>

#include "core/error.hpp"
#include "cuda/host_traffic.hpp"

namespace usmlite::cuda {
namespace {

void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // forgets it, so that a failure one can go on after is not reported twice
  throw Error(error_code::kGpuFailed, std::string("the GPU failed while ") + doing + ": " + cudaGetErrorString(status) +
                                          "; what was computed since the last successful wait is lost. When it stays so, "
                                          "restart the process and look at nvidia-smi and the kernel log");
}

/// The driver refuses to wait for a device that has work being recorded, and drops the recording. Held by recordings, shared by waits.
std::shared_mutex& recordings() {
  static std::shared_mutex mutex;
  return mutex;
}
thread_local bool is_recording = false;

/// What would end up in the recording with an address of the host, or end it.
void refuse_while_recording(const char* what) {
  if (is_recording) throw Error(error_code::kGpuFailed, std::string("the GPU failed while recording work: it cannot ") + what);
}

void begin_wait() {
  refuse_while_recording("be waited for");
  ++host_traffic.waits;
}

cudaStream_t stream_of(StreamHandle stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

namespace driver {

void* allocate(size_t bytes) {
  gpu_properties();
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "allocating memory");
  return memory;
}

void release(void* memory) noexcept {
  if (cudaFree(memory) != cudaSuccess) cudaGetLastError();
}

size_t allocation_granularity() { return 512; }

int64_t free_memory() {
  gpu_properties();
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for its free memory");
  return static_cast<int64_t>(free);
}

void* allocate_host(size_t bytes) {
  gpu_properties();
  void* memory = nullptr;
  const cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "locking memory of the host");
  return memory;
}

void release_host(void* memory) noexcept {
  if (cudaFreeHost(memory) != cudaSuccess) cudaGetLastError();
}

StreamHandle create_stream() {
  gpu_properties();
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  return stream;
}

void destroy_stream(StreamHandle stream) noexcept {
  if (cudaStreamDestroy(stream_of(stream)) != cudaSuccess) cudaGetLastError();
}

void synchronize(StreamHandle stream) {
  begin_wait();
  check(cudaStreamSynchronize(stream_of(stream)), "finishing the work it was given");
}

void synchronize_all() {
  begin_wait();
  const std::shared_lock lock(recordings());
  check(cudaDeviceSynchronize(), "finishing the work it was given");
}

void wait_for(StreamHandle stream, StreamHandle other) {
  refuse_while_recording("wait for another stream");
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  cudaError_t status = cudaEventRecord(event, stream_of(other));
  if (status == cudaSuccess) status = cudaStreamWaitEvent(stream_of(stream), event, 0);
  cudaEventDestroy(event);  // the driver keeps what is still waited for
  check(status, "making one stream wait for another");
}

// Whether the call returns before the copy is done depends on the kind of the host's memory and on the system.
void begin_copy_to_device(void* device, size_t device_stride, const void* host, size_t host_stride, size_t row_bytes, size_t rows,
                          StreamHandle stream) {
  refuse_while_recording("copy from the host");
  if (row_bytes == 0 || rows == 0) return;
  host_traffic.to_device.add(row_bytes * rows);
  const bool contiguous = rows == 1 || (device_stride == row_bytes && host_stride == row_bytes);
  check(contiguous ? cudaMemcpyAsync(device, host, row_bytes * rows, cudaMemcpyHostToDevice, stream_of(stream))
                   : cudaMemcpy2DAsync(device, device_stride, host, host_stride, row_bytes, rows, cudaMemcpyHostToDevice,
                                       stream_of(stream)),
        "copying to it");
}

void copy_to_device(void* device, size_t device_stride, const void* host, size_t host_stride, size_t row_bytes, size_t rows,
                    StreamHandle stream) {
  begin_copy_to_device(device, device_stride, host, host_stride, row_bytes, rows, stream);
  synchronize(stream);  // a GPU that reads all memory of the host may copy from any of it on its own
}

void begin_copy_to_host(void* host, size_t host_stride, const void* device, size_t device_stride, size_t row_bytes, size_t rows,
                        StreamHandle stream) {
  refuse_while_recording("copy to the host");
  if (row_bytes == 0 || rows == 0) return;
  host_traffic.to_host.add(row_bytes * rows);
  const bool contiguous = rows == 1 || (device_stride == row_bytes && host_stride == row_bytes);
  check(contiguous ? cudaMemcpyAsync(host, device, row_bytes * rows, cudaMemcpyDeviceToHost, stream_of(stream))
                   : cudaMemcpy2DAsync(host, host_stride, device, device_stride, row_bytes, rows, cudaMemcpyDeviceToHost,
                                       stream_of(stream)),
        "copying from it");
}

void copy_to_host(void* host, size_t host_stride, const void* device, size_t device_stride, size_t row_bytes, size_t rows,
                  StreamHandle stream) {
  refuse_while_recording("be waited for");
  begin_copy_to_host(host, host_stride, device, device_stride, row_bytes, rows, stream);
  synchronize(stream);
}

void copy_on_device(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream)), "copying within its memory");
}

void fill(void* device, uint8_t byte, size_t bytes, StreamHandle stream) {
  check(cudaMemsetAsync(device, byte, bytes, stream_of(stream)), "filling memory");
}

Event::Event() {
  gpu_properties();
  cudaEvent_t event;
  check(cudaEventCreate(&event), "making an event");
  event_ = event;
}

Event::~Event() { cudaEventDestroy(static_cast<cudaEvent_t>(event_)); }

void Event::record(StreamHandle stream) {
  refuse_while_recording("record an event");  // it would be one of the recording, which cannot be asked
  check(cudaEventRecord(static_cast<cudaEvent_t>(event_), stream_of(stream)), "recording an event");
}

bool Event::done() const {
  const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event_));
  if (status == cudaSuccess) return true;
  cudaGetLastError();
  return status != cudaErrorNotReady;  // a GPU that has failed does nothing more, and says so to whoever waits
}

void Event::synchronize() const {
  begin_wait();
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(event_)), "finishing the work it was given");
}

double Event::milliseconds_since(const Event& earlier) const {
  float milliseconds = 0.0f;
  ++host_traffic.waits;
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(event_)), "finishing the work it was given");
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(earlier.event_), static_cast<cudaEvent_t>(event_)),
        "measuring time");
  return milliseconds;
}

RecordedWork::RecordedWork(StreamHandle stream, std::function<void()> work) {
  gpu_properties();
  const std::unique_lock lock(recordings());
  check(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeRelaxed), "recording work");
  cudaGraph_t graph = nullptr;
  is_recording = true;
  try {
    work();
    is_recording = false;
  } catch (...) {
    is_recording = false;
    cudaStreamEndCapture(stream_of(stream), &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream_of(stream), &graph), "recording work");
  cudaGraphExec_t executable = nullptr;
  cudaGraphGetNodes(graph, nullptr, &operations_);
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "preparing recorded work");
  recorded_ = executable;
}

RecordedWork::~RecordedWork() { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recorded_)); }

void RecordedWork::run(StreamHandle stream) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recorded_), stream_of(stream)), "running recorded work");
}

}  // namespace driver
}  // namespace usmlite::cuda
