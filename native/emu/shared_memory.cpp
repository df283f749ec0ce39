#include "emu/shared_memory.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <string>

#include "emu/machine.hpp"

namespace usmlite::cuda {

unsigned char* shared_memory() { return emu::machine().block().shared.data(); }

}  // namespace usmlite::cuda

namespace usmlite::emu {

namespace {

/// What unwritten bytes hold: not a number in every float type, and rarely right as a whole number.
constexpr int kPoison = 0xff;

std::string byte(uint32_t index) { return "byte " + std::to_string(index * 4) + " of shared memory"; }

}  // namespace

SharedMemory::SharedMemory() : words_(kMostBytes / 4 + 1) {
  void* memory = mmap(nullptr, kReservedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  reservation_ = static_cast<unsigned char*>(memory);
  data_ = reservation_ + kDataOffset;
  mprotect(data_, (kMostBytes + 4095) & ~4095u, PROT_READ | PROT_WRITE);
}

SharedMemory::~SharedMemory() { munmap(reservation_, kReservedBytes); }

void SharedMemory::begin(uint32_t bytes, MemoryOrder& order) {
  bytes_ = bytes;
  order_ = &order;
  if (++generation_ == 0) {
    std::fill(words_.begin(), words_.end(), Word{});
    generation_ = 1;
  }
  std::memset(data_, kPoison, bytes);
  fence_.assign(order.threads(), 0);
}

void SharedMemory::report_place(const void* address, uint32_t bytes, uint32_t alignment, const char* operation) const {
  const int64_t offset = static_cast<const unsigned char*>(address) - data_;
  if (offset < 0 || offset + bytes > bytes_) {
    const bool near = is_near(reinterpret_cast<uintptr_t>(address));
    machine().fail(
        std::string(operation) + " of " + std::to_string(bytes) + " bytes at " +
        (near ? "offset " + std::to_string(offset) + " of shared memory, which has " + std::to_string(bytes_) + " bytes"
              : "an address that is not in shared memory"));
  }
  machine().fail(std::string(operation) + " at offset " + std::to_string(offset) +
                 " of shared memory, which is not a multiple of " + std::to_string(alignment));
}

// What follows happens at each access of each thread, and is a few instructions where nothing is wrong.

template <typename Visit> [[gnu::always_inline]] inline void SharedMemory::for_each_word(uint32_t offset, uint32_t bytes, Visit&& visit) {
  const uint32_t end = offset + bytes;
  if (((offset | bytes) & 3) == 0) {
    for (uint32_t index = offset / 4; index < end / 4; ++index) visit(word(index), 0xf, index);
    return;
  }
  for (uint32_t index = offset / 4; index * 4 < end; ++index) {
    uint8_t mask = 0xf;
    if (index * 4 < offset) mask &= 0xf << (offset - index * 4);
    if (index * 4 + 4 > end) mask &= 0xf >> (index * 4 + 4 - end);
    visit(word(index), mask, index);
  }
}

void SharedMemory::report_race(uint32_t index, int thread, const char* operation, const char* other, int party) const {
  const int warp = order_->warp_of(party);
  const std::string who = party < order_->threads() ? machine().describe(party)
                          : warp < 0                ? "an asynchronous copy"
                                                    : "the warp of " + machine().describe(warp * 32);
  machine().fail("race: " + std::string(operation) + " of " + byte(index) + " and a " + other + " by " + who +
                     " have no barrier between them",
                 thread);
}

[[gnu::always_inline]] inline void SharedMemory::check_state(const Word& w, uint32_t index, int thread, const char* operation) const {
  if (w.state == State::kArriving)
    machine().fail(std::string(operation) + " of " + byte(index) + ", into which an asynchronous copy is under way", thread);
  if (w.state == State::kBarrier)
    machine().fail(std::string(operation) + " of " + byte(index) + ", which is in an mbarrier", thread);
}

[[gnu::always_inline]] inline void SharedMemory::check_read(const Word& w, uint8_t mask, uint32_t index, int thread, Proxy proxy,
                                                            const char* operation) const {
  check_state(w, index, thread, operation);
  if ((w.written & mask) != mask)
    machine().fail(std::string(operation) + " of " + byte(index) + ", which nothing has been written to", thread);
  if (w.write_mask & mask) check_order({w.write_clock, index, w.writer, w.write_proxy}, thread, proxy, operation);
}

[[gnu::always_inline]] inline void SharedMemory::check_order(const Written& w, int thread, Proxy proxy, const char* operation) const {
  if (!order_->known(w.party, w.clock, thread)) report_race(w.index, thread, operation, "write", w.party);
  // Either the writer's own fence or one of the reader, after it learned of the write, will do.
  if (proxy == Proxy::kAsynchronous && w.proxy == Proxy::kGeneric && w.clock > fence_[thread] &&
      (w.party >= order_->threads() || w.clock > fence_[w.party]))
    machine().fail(std::string(operation) + " of " + byte(w.index) + ", which " + machine().describe(w.party) +
                       " wrote without async_proxy_fence after it",
                   thread);
}

[[gnu::always_inline]] inline void SharedMemory::check_write(const Word& w, uint8_t mask, uint32_t index, int thread,
                                                             const char* operation) const {
  check_state(w, index, thread, operation);
  if (w.products > 0)
    machine().fail(std::string(operation) + " of " + byte(index) + ", which a product that is under way reads", thread);
  if ((w.write_mask & mask) && !order_->known(w.writer, w.write_clock, thread))
    report_race(index, thread, operation, "write", w.writer);
  for (int i = 0; i < 2; ++i)
    if ((w.read_mask[i] & mask) && !order_->known(w.reader[i], w.read_clock[i], thread))
      report_race(index, thread, operation, "read", w.reader[i]);
}

[[gnu::always_inline]] inline void SharedMemory::record_read(Word& w, uint8_t mask, int party, uint32_t clock, int thread) {
  int slot = -1;
  for (int i = 0; i < 2; ++i)
    if (w.reader[i] == party && w.read_mask[i]) slot = i;
  for (int i = 0; i < 2 && slot < 0; ++i)
    if (!w.read_mask[i] || order_->known(w.reader[i], w.read_clock[i], thread)) slot = i;
  if (slot < 0) slot = w.next_reader ^= 1;
  w.read_mask[slot] = w.reader[slot] == party && w.read_clock[slot] == clock ? w.read_mask[slot] | mask : mask;
  w.reader[slot] = static_cast<uint16_t>(party);
  w.read_clock[slot] = clock;
}

void SharedMemory::read(int thread, uint32_t offset, uint32_t bytes, const char* operation) {
  const uint32_t clock = order_->clock(thread);
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t index) __attribute__((always_inline)) {
    check_read(w, mask, index, thread, Proxy::kGeneric, operation);
    record_read(w, mask, thread, clock, thread);
  });
}

void SharedMemory::read_by_warp(int thread, int warp, uint32_t clock, uint32_t offset, uint32_t bytes, const char* operation) {
  const int party = order_->warp(warp);
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t index) __attribute__((always_inline)) {
    check_read(w, mask, index, thread, Proxy::kGeneric, operation);
    record_read(w, mask, party, clock, thread);
  });
}

void SharedMemory::write(int thread, uint32_t offset, uint32_t bytes, const char* operation) {
  const uint32_t clock = order_->clock(thread);
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t index) __attribute__((always_inline)) {
    check_write(w, mask, index, thread, operation);
    w.write_mask = w.writer == thread && w.write_clock == clock ? w.write_mask | mask : mask;
    w.writer = static_cast<uint16_t>(thread);
    w.write_clock = clock;
    w.write_proxy = Proxy::kGeneric;
    w.written |= mask;
  });
}

void SharedMemory::begin_arrival(int thread, uint32_t offset, uint32_t bytes, const char* operation) {
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t index) __attribute__((always_inline)) {
    check_write(w, mask, index, thread, operation);
    w.state = State::kArriving;
  });
  std::memset(data_ + offset, kPoison, bytes);
}

void SharedMemory::end_arrival(uint32_t offset, uint32_t bytes, int party, uint32_t clock, Proxy proxy) {
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t) __attribute__((always_inline)) {
    w.state = State::kOrdinary;
    w.writer = static_cast<uint16_t>(party);
    w.write_clock = clock;
    w.write_mask = mask;
    w.write_proxy = proxy;
    w.written |= mask;
  });
}

void SharedMemory::check_product_read(int thread, uint32_t offset, uint32_t bytes, const char* operation) {
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t index) __attribute__((always_inline)) {
    check_read(w, mask, index, thread, Proxy::kAsynchronous, operation);
  });
}

void SharedMemory::begin_use(uint32_t offset, uint32_t bytes, std::vector<Written>* written) {
  for_each_word(offset, bytes, [written](Word& w, uint8_t mask, uint32_t index) __attribute__((always_inline)) {
    ++w.products;
    if (!written || !(w.write_mask & mask)) return;
    // Most words hold what the one before does.
    if (written->empty() || written->back().clock != w.write_clock || written->back().party != w.writer)
      written->push_back({w.write_clock, index, w.writer, w.write_proxy});
  });
}

void SharedMemory::check_product_order(int thread, std::span<const Written> written, const char* operation) const {
  for (const Written& w : written) check_order(w, thread, Proxy::kAsynchronous, operation);
}

void SharedMemory::end_use(uint32_t offset, uint32_t bytes, int first_warp, std::span<const uint32_t> clocks) {
  const int last = static_cast<int>(clocks.size()) - 1;
  for_each_word(offset, bytes, [&](Word& w, uint8_t mask, uint32_t) __attribute__((always_inline)) {
    --w.products;
    if (last == 0) {
      record_read(w, mask, order_->warp(first_warp), clocks[0], first_warp * 32);
      return;
    }
    for (int i = 0; i < 2; ++i) {  // the last two
      const int warp = last - i;
      w.reader[i] = static_cast<uint16_t>(order_->warp(first_warp + warp));
      w.read_clock[i] = clocks[warp];
      w.read_mask[i] = mask;
    }
  });
}

void SharedMemory::place_barrier(int thread, uint32_t offset) {
  for_each_word(offset, 8, [&](Word& w, uint8_t mask, uint32_t index) {
    check_write(w, mask, index, thread, "barrier_init");
    w.state = State::kBarrier;
  });
}

}  // namespace usmlite::emu
