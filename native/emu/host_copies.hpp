// Copies between the device and page-locked memory of the host that were begun and not waited for: the emulator does them as late as
// may be, before whatever is asked of the device next, so that memory that is touched too early holds what it should not.
#pragma once
#include <cstdint>
#include <functional>

namespace usmlite::emu {

void begin_copy(std::function<void()> copy);
/// Does all that were begun.
void finish_copies();
/// How many were begun, and how many are done.
uint64_t begun_copies();
uint64_t finished_copies();

}  // namespace usmlite::emu
