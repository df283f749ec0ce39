// Recorded work of a GPU's driver: a CUDA graph. runtime.cu has it from the CUDA runtime, native/emu/runtime.cpp from the emulator.
#pragma once
#include <functional>

#include "cuda/runtime.hpp"

namespace usmlite::cuda::driver {

/// Work recorded once, to be run again without the cost of asking for each kernel.
class RecordedWork {
 public:
  /// Records what `work` gives to `stream`: kernels, copies and fills on the device. It may not copy from or to the host, wait,
  /// or use other streams. Memory that it asks for has to be kept as long as the recording. What other threads do is not
  /// recorded; those that wait for all streams do so after the recording.
  RecordedWork(StreamHandle stream, std::function<void()> work);
  ~RecordedWork();
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;
  void run(StreamHandle stream);
  /// Kernels, copies and fills that it consists of.
  size_t operations() const { return operations_; }

 private:
  void* recorded_ = nullptr;
  size_t operations_ = 0;
};

}  // namespace usmlite::cuda::driver
