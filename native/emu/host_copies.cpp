#include "emu/host_copies.hpp"

#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

namespace usmlite::emu {
namespace {

struct Copies {
  std::mutex mutex;
  std::vector<std::function<void()>> waiting;
  std::atomic<uint64_t> begun{0}, finished{0};
};

Copies& copies() {
  static auto* instance = new Copies;  // leaked: tensors may go after static destructors have run
  return *instance;
}

}  // namespace

void begin_copy(std::function<void()> copy) {
  Copies& c = copies();
  std::lock_guard lock(c.mutex);
  c.waiting.push_back(std::move(copy));
  ++c.begun;
}

void finish_copies() {
  Copies& c = copies();
  if (c.begun == c.finished) return;
  std::lock_guard lock(c.mutex);
  for (const auto& copy : c.waiting) copy();
  c.finished += c.waiting.size();
  c.waiting.clear();
}

uint64_t begun_copies() { return copies().begun; }
uint64_t finished_copies() { return copies().finished; }

}  // namespace usmlite::emu
