#include "cuda/stream.hpp"

#include "core/error.hpp"
#include "cuda/device_memory.hpp"

namespace usmlite::cuda {

Stream::Stream() : handle_(driver::create_stream()) {}

Stream::~Stream() {
  try {
    synchronize();
  } catch (const Error&) {
    // A GPU that has failed says so to whoever asks it for results.
  }
  device_allocator::adopt_blocks_of(handle_);
  driver::destroy_stream(handle_);
}

const std::shared_ptr<Stream>& default_stream() {
  // Leaked: tensors of worker threads may go after static destructors have run.
  static const auto* stream = new std::shared_ptr<Stream>(std::make_shared<Stream>());
  return *stream;
}

}  // namespace usmlite::cuda
