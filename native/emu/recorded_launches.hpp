// What is asked of the emulated device is done at once, or kept in a list while work is recorded.
#pragma once
#include <functional>
#include <utility>
#include <vector>

#include "emu/host_copies.hpp"
#include "emu/machine.hpp"

namespace usmlite::emu {

using RecordedLaunches = std::vector<std::function<void()>>;

/// That of the recording under way on this thread, or null.
extern thread_local RecordedLaunches* recorded_launches;

inline bool is_recording() { return recorded_launches != nullptr; }

template <typename Launch> void perform(Launch launch) {
  if (recorded_launches) return recorded_launches->push_back(std::move(launch));
  finish_copies();
  launch();
}

/// What `work` asked for.
RecordedLaunches record(const std::function<void()>& work);

}  // namespace usmlite::emu
