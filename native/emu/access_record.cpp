#include "emu/access_record.hpp"

#include <sys/mman.h>

#include <bit>
#include <new>
#include <string>

#include "emu/machine.hpp"

namespace usmlite::emu {

namespace {

constexpr size_t kWidestGranule = 16;

void* map_zeros(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

size_t count(size_t bytes, size_t granule) { return (bytes + granule - 1) / granule; }

}  // namespace

void AccessRecord::forget() {
  if (places_) munmap(places_, count(bytes_, granule_) * sizeof(Place));
  places_ = nullptr;
  granule_ = 0;
}

/// Places become narrower, each of the new ones with what is known of the old.
void AccessRecord::narrow(size_t granule) {
  const size_t places = count(bytes_, granule);
  Place* const narrower = static_cast<Place*>(map_zeros(places * sizeof(Place)));
  if (places_) {
    const GlobalOrder& order = machine().global_order();
    const size_t old_places = count(bytes_, granule_), ratio = granule_ / granule;
    for (size_t i = 0; i < old_places; ++i) {
      const Place& old = places_[i];
      const bool used = order.in_kernel(old.write.clock) || order.in_kernel(old.reads[0].clock) || order.in_kernel(old.reads[1].clock);
      for (size_t j = i * ratio; used && j < (i + 1) * ratio && j < places; ++j) narrower[j] = old;
    }
    munmap(places_, old_places * sizeof(Place));
  }
  places_ = narrower;
  granule_ = granule;
}

void AccessRecord::report(size_t offset, const char* operation, const Access& other) const {
  Machine& machine = emu::machine();
  const bool wrote = other.kind != Kind::kRead, same = machine.global_order().in_cluster(other.clock);
  machine.fail("race: " + std::string(operation) + " of byte " + std::to_string(offset) + " of a device buffer of " + std::to_string(bytes_) +
               " bytes and a " + (wrote ? "write" : "read") + " by " +
               (same ? machine.describe(other.thread) + " have no barrier between them"
                     : "thread " + std::to_string(other.thread) + " of an earlier block have no addition to a counter between them"));
}

void AccessRecord::add(size_t offset, size_t bytes, Kind kind, int thread, const char* operation) {
  Machine& machine = emu::machine();
  if (era_ != machine.order().era()) {
    forget();
    era_ = machine.order().era();
  }
  const size_t common = offset | bytes | kWidestGranule;
  const size_t granule = common & -common;
  if (granule_ == 0 || granule < granule_) narrow(granule);
  const GlobalOrder& order = machine.global_order();
  const auto races = [&](const Access& other) {
    return order.in_kernel(other.clock) && !(kind == Kind::kAtomic && other.kind == Kind::kAtomic) &&
           !order.is_known(other.thread, other.clock, thread);
  };
  const Access access{machine.order().clock(thread), static_cast<uint16_t>(thread), kind};
  const size_t shift = std::countr_zero(granule_), last = (offset + bytes - 1) >> shift;
  for (size_t i = offset >> shift; i <= last; ++i) {
    Place& place = places_[i];
    if (races(place.write)) report(i << shift, operation, place.write);
    if (kind != Kind::kRead) {
      for (const Access& read : place.reads)
        if (races(read)) report(i << shift, operation, read);
      place.write = access;
      continue;
    }
    int slot = -1;
    for (int s = 0; s < 2 && slot < 0; ++s)
      if (!order.in_kernel(place.reads[s].clock) || order.is_known(place.reads[s].thread, place.reads[s].clock, thread)) slot = s;
    if (slot < 0) slot = place.next_read ^= 1;
    place.reads[slot] = access;
  }
}

}  // namespace usmlite::emu
