#include "emu/recorded_launches.hpp"

namespace usmlite::emu {

thread_local RecordedLaunches* recorded_launches = nullptr;

RecordedLaunches record(const std::function<void()>& work) {
  RecordedLaunches launches;
  recorded_launches = &launches;
  try {
    work();
  } catch (...) {
    recorded_launches = nullptr;
    throw;
  }
  recorded_launches = nullptr;
  return launches;
}

}  // namespace usmlite::emu
