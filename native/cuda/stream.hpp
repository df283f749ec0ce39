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

 private:
  StreamHandle handle_;
};

/// The stream of everything that names none. Throws NO_GPU or DRIVER_TOO_OLD.
const std::shared_ptr<Stream>& default_stream();

}  // namespace usmlite::cuda
