#include "emu/global_order.hpp"

namespace usmlite::emu {

void GlobalOrder::begin_kernel() {
  kernel_ = order_.begin_kernel();
  counters_.clear();
}

void GlobalOrder::begin_cluster(int threads) {
  cluster_ = order_.tick();
  fences_.assign(threads, 0);
  acquisitions_.clear();
  acquired_.assign(threads, {});
}

void GlobalOrder::fence(int thread) {
  std::vector<size_t>& acquired = acquired_[thread];
  acquired.clear();
  for (size_t i = 0; i < acquisitions_.size(); ++i)
    if (order_.known(acquisitions_[i].thread, acquisitions_[i].clock, thread)) acquired.push_back(i);
  fences_[thread] = order_.advance(thread);
}

void GlobalOrder::atomic(const void* address, int thread) {
  Releases& counter = counters_[address];
  const int threads = static_cast<int>(fences_.size());
  auto release = std::make_shared<Release>(Release{cluster_, std::vector<uint32_t>(threads)});
  for (int other = 0; other < threads; ++other)
    if (fences_[other] != 0 && order_.known(other, fences_[other], thread)) release->fenced[other] = fences_[other];
  Releases before = counter;
  for (const size_t i : acquired_[thread]) {  // what it knows of earlier clusters it passes on
    const Releases& passed = acquisitions_[i].releases;
    counter.insert(counter.end(), passed.begin(), passed.end());
  }
  counter.push_back(std::move(release));
  const uint32_t clock = order_.advance(thread);
  if (!before.empty()) acquisitions_.push_back({thread, clock, std::move(before)});
}

bool GlobalOrder::was_acquired(int other, uint32_t clock, int thread) const {
  if (acquisitions_.empty()) return false;  // as in nearly all kernels
  const auto told = [&](int by) {
    for (const size_t i : acquired_[by])
      for (const auto& release : acquisitions_[i].releases)
        if (release->cluster <= clock && static_cast<size_t>(other) < release->fenced.size() && clock <= release->fenced[other]) return true;
    return false;
  };
  if (told(thread)) return true;
  for (int by = 0; by < static_cast<int>(acquired_.size()); ++by)
    if (!acquired_[by].empty() && order_.known(by, fences_[by], thread) && told(by)) return true;
  return false;
}

}  // namespace usmlite::emu
