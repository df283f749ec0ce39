// Work recorded once and run again without the cost of asking for each kernel: CUDA graphs, whatever the work was made of.
#pragma once
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include "cuda/device_memory.hpp"
#include "cuda/recorded_work.hpp"
#include "cuda/recording_memory.hpp"

namespace usmlite::cuda {

/// Everything that `work` gives to the default stream of this thread. Tensors that it makes and keeps are filled again each
/// time; those that it only reads are kept by the recording. It may copy nothing to or from the host, and wait for nothing.
class Recording {
 public:
  /// Records, and does nothing yet. Run the work once before: what it places on the GPU for good has to be there.
  explicit Recording(const std::function<void()>& work);
  /// Waits until it no longer runs.
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// On the stream that was recorded, after what other streams were given that uses the same memory. Not while work is recorded.
  void run();
  /// Kernels, copies and fills of a run.
  size_t operations() const { return work_->operations(); }

 private:
  Stream stream_;
  std::shared_ptr<RecordingPool> pool_;
  std::unordered_set<std::shared_ptr<DeviceMemory>> used_;
  std::vector<std::weak_ptr<DeviceMemory>> filled_;
  std::unique_ptr<driver::RecordedWork> work_;
};

}  // namespace usmlite::cuda
