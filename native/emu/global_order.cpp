#include "emu/global_order.hpp"

#include <algorithm>
#include <utility>

namespace usmlite::emu {

void GlobalOrder::begin_kernel() {
  kernel_ = order_.begin_kernel();
  counters_.clear();
}

void GlobalOrder::begin_cluster() {
  cluster_ = order_.tick();
  acquisitions_.clear();
}

void GlobalOrder::add(const void* counter, int thread) {
  Releases& releases = counters_[counter];
  Releases found;
  std::erase_if(releases, [&](const auto& release) {
    if (!in_cluster(release->cluster)) found.insert(release);
    return in_cluster(release->cluster) && release->thread == thread;  // what comes now tells as much
  });
  auto own = std::make_shared<Release>(Release{cluster_, thread, VectorClock(order_.threads())});
  for (int other = 0; other < order_.threads(); ++other) own->known[other] = order_.last_known(other, thread);
  bool is_new = !found.empty();
  for (const Acquisition& earlier : acquisitions_) {
    if (!order_.known(earlier.thread, earlier.clock, thread)) continue;
    releases.insert(earlier.releases.begin(), earlier.releases.end());  // it passes on what it knows of other clusters
    is_new = is_new && !std::includes(earlier.releases.begin(), earlier.releases.end(), found.begin(), found.end());
  }
  releases.insert(std::move(own));
  const uint32_t clock = order_.advance(thread);
  if (is_new) acquisitions_.push_back({thread, clock, std::move(found)});
}

bool GlobalOrder::was_acquired(int other, uint32_t clock, int thread) const {
  for (const Acquisition& acquisition : acquisitions_) {
    if (!order_.known(acquisition.thread, acquisition.clock, thread)) continue;
    for (const auto& release : acquisition.releases)
      if (release->cluster <= clock && static_cast<size_t>(other) < release->known.size() && clock <= release->known[other]) return true;
  }
  return false;
}

}  // namespace usmlite::emu
