#include "cuda/recording.hpp"

#include "core/error.hpp"

namespace usmlite::cuda {
namespace {

/// That of this thread's recordings, as long as there are any.
std::shared_ptr<RecordingPool> pool_of(const Stream& stream) {
  thread_local std::weak_ptr<RecordingPool> known;
  std::shared_ptr<RecordingPool> pool = known.lock();
  if (!pool) known = pool = std::make_shared<RecordingPool>(stream);
  return pool;
}

}  // namespace

Recording::Recording(const std::function<void()>& work) : stream_(default_stream()), pool_(pool_of(stream_)) {
  if (RecordingMemory::current()) throw Error(error_code::kInvalidArgument, "work is being recorded already; recordings do not nest");
  RecordingMemory memory(pool_);
  work_ = std::make_unique<driver::RecordedWork>(stream_.handle(), work);
  used_ = memory.take_noted();
  filled_ = memory.kept();
}

Recording::~Recording() {
  try {
    stream_.synchronize();
  } catch (const Error&) {
    // A GPU that has failed says so to whoever asks it for results.
  }
}

void Recording::run() {
  if (RecordingMemory::current()) throw Error(error_code::kInvalidArgument, "work is being recorded; a recording cannot be run as part of it");
  for (const auto& memory : used_) memory->use_on(stream_);
  for (const auto& memory : filled_) {
    if (const std::shared_ptr<DeviceMemory> there = memory.lock()) there->use_on(stream_);
  }
  work_->run(stream_.handle());
}

}  // namespace usmlite::cuda
