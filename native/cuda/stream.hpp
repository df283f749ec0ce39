// Streams: queues of work of the GPU, run in order within each and side by side otherwise.
#pragma once
#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// A queue of its own, shared by the copies of this object. The last one waits for its work when it goes.
class Stream {
 public:
  Stream();
  Stream(const Stream& other) noexcept;
  Stream& operator=(const Stream& other) noexcept;
  ~Stream();
  friend bool operator==(const Stream& a, const Stream& b) { return a.handle_ == b.handle_; }

  StreamHandle handle() const { return handle_; }
  void synchronize() const { driver::synchronize(handle_); }
  /// At least `count` counters for the kernels of this stream, zero between kernels. Valid as long as the stream: recorded kernels
  /// go on using them.
  int* counters(int count) const;

 private:
  struct Queue;

  Queue* queue_;  // counted there: kernel files are without <memory>, which nvcc takes seconds to read
  StreamHandle handle_;
};

/// The stream of everything that names none: each thread has its own, so that what one records is not mixed with the work of
/// another. Throws NO_GPU or DRIVER_TOO_OLD.
const Stream& default_stream();

}  // namespace usmlite::cuda
