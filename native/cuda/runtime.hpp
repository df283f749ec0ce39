// What this package asks of a GPU's driver: memory, copies, streams, timing. runtime.cu and gpu_properties.cu have it from the CUDA runtime,
// native/emu/runtime.cpp from the emulator. Everything here may be called from any thread. Texts are kept as long as the process.
//
// Every kernel file includes this, and nvcc reads it once for the host and once for every GPU: no header that is long to read.
#pragma once
#include <cstddef>
#include <cstdint>

namespace usmlite::cuda {

/// A queue of work of the GPU: a cudaStream_t.
using StreamHandle = void*;

struct GpuProperties {
  const char* name;
  int compute_capability;  // 90 for 9.0
  int multiprocessors;
  int64_t memory_bytes;
  int64_t second_level_cache_bytes;
  int shared_bytes_per_block;  // the most a kernel may ask for
  int driver_version;          // the CUDA version it supports: 13000 for 13.0; 0 for the emulator
  int runtime_version;         // the CUDA version this was built with
  bool emulated;
};

/// Whether there is a GPU to compute on: `code` is null, or that of the error that says what is missing.
struct GpuAvailability {
  const char* code = nullptr;
  const char* sentence = nullptr;
};
/// Found out once per process. It is the first GPU that the driver shows; CUDA_VISIBLE_DEVICES chooses another.
const GpuAvailability& gpu_availability();
/// Throws NO_GPU or DRIVER_TOO_OLD.
const GpuProperties& gpu_properties();

/// Functions throw GPU_FAILED, with what was being done, when the driver reports a failure. Failures of kernels and
/// copies that run on their own show in the next call that waits.
namespace driver {

/// Null when there is not that much memory. Aligned to 256 bytes, not zeroed.
void* allocate(size_t bytes);
void release(void* memory) noexcept;
/// Blocks of memory are worth keeping for reuse only when they come in few sizes: multiples of this.
size_t allocation_granularity();
int64_t free_memory();
/// Page-locked memory of the host; null when there is not that much.
void* allocate_host(size_t bytes);
/// The GPU must be done with it.
void release_host(void* memory) noexcept;

StreamHandle create_stream();
void destroy_stream(StreamHandle stream) noexcept;
void synchronize(StreamHandle stream);
/// Waits for all streams.
void synchronize_all();
/// Work that `stream` is given from now on begins after all that `other` has been given so far.
void wait_for(StreamHandle stream, StreamHandle other);

/// Copies between host and device rows of `row_bytes`; strides in bytes. Both wait: the host memory may be reused on return.
void copy_to_device(void* device, size_t device_stride, const void* host, size_t host_stride, size_t row_bytes, size_t rows,
                    StreamHandle stream);
void copy_to_host(void* host, size_t host_stride, const void* device, size_t device_stride, size_t row_bytes, size_t rows,
                  StreamHandle stream);
/// The same with page-locked memory, and return before it is done: the memory must stay as it is until then.
void begin_copy_to_device(void* device, size_t device_stride, const void* pinned, size_t pinned_stride, size_t row_bytes, size_t rows,
                          StreamHandle stream);
void begin_copy_to_host(void* pinned, size_t pinned_stride, const void* device, size_t device_stride, size_t row_bytes, size_t rows,
                        StreamHandle stream);
void copy_on_device(void* to, const void* from, size_t bytes, StreamHandle stream);
void fill(void* device, uint8_t byte, size_t bytes, StreamHandle stream);

/// A moment in a stream.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(StreamHandle stream);
  /// Whether the moment has come, or never will because the GPU has failed; true before it was recorded. Does not wait.
  bool done() const;
  void synchronize() const;
  /// Waits for this moment; the time between them.
  double milliseconds_since(const Event& earlier) const;

 private:
  void* event_;
};

}  // namespace driver
}  // namespace usmlite::cuda
