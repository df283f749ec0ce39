// Streams: queues of work of the GPU, run in order within each and side by side otherwise.
#pragma once
#include <memory>

#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// Waits for its work when it goes.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  StreamHandle handle() const { return handle_; }
  void synchronize() const { driver::synchronize(handle_); }
  /// At least `count` counters for the kernels of this stream, zero between kernels. Valid as long as the stream: recorded kernels
  /// go on using them.
  int* counters(int count);

 private:
  struct Counters;

  StreamHandle handle_;
  std::unique_ptr<Counters> counters_;
};

/// The stream of everything that names none: each thread has its own, so that what one records is not mixed with the work of
/// another. Throws NO_GPU or DRIVER_TOO_OLD.
const std::shared_ptr<Stream>& default_stream();

}  // namespace usmlite::cuda
