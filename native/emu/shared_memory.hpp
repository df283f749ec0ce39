// The shared memory of a block, with a record of who wrote and read each word last.
//
// Reported: accesses outside of what the launch asked for; reads of bytes that this block has not written; two accesses
// to a byte of which one writes and which no barrier orders; any access to what an asynchronous copy is filling; writes
// to what an unfinished asynchronous product reads; products and copies that read ordinary writes without a fence between;
// ordinary accesses to an mbarrier. Of several unordered reads of a word the last two are remembered, of several writes
// within a word the last.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "emu/memory_order.hpp"

namespace usmlite::emu {

/// Who reads or writes: ordinary instructions, or the tensor cores (of descriptors) and the copy engine, which see
/// ordinary writes only after a fence.
enum class Proxy : uint8_t { kGeneric, kAsynchronous };

class SharedMemory {
 public:
  static constexpr uint32_t kMostBytes = 227 * 1024;
  /// Where it begins in the shared address space (the system keeps the first 1,024 bytes).
  static constexpr uint32_t kFirstAddress = 1024;

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void begin(uint32_t bytes, MemoryOrder& order);

  unsigned char* data() const { return data_; }
  uint32_t bytes() const { return bytes_; }
  /// Whether an address lies in shared memory or around it.
  bool is_near(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(reservation_) < kReservedBytes; }
  /// The offset of `bytes` at an address, which must lie within the block's shared memory; `alignment` is a power of two.
  uint32_t offset_of(const void* address, uint32_t bytes, uint32_t alignment, const char* operation) const {
    const int64_t offset = static_cast<const unsigned char*>(address) - data_;
    if (offset < 0 || offset + bytes > bytes_ || (offset & (alignment - 1)) != 0) report_place(address, bytes, alignment, operation);
    return static_cast<uint32_t>(offset);
  }

  void read(int thread, uint32_t offset, uint32_t bytes, const char* operation);
  void write(int thread, uint32_t offset, uint32_t bytes, const char* operation);
  /// A read by all lanes of a warp together, at a moment of the warp's.
  void read_by_warp(int thread, int warp, uint32_t clock, uint32_t offset, uint32_t bytes, const char* operation);

  /// A copy will fill these bytes, which hold nothing useful until then.
  void begin_arrival(int thread, uint32_t offset, uint32_t bytes, const char* operation);
  /// It has come: a write of `party` at `clock`.
  void end_arrival(uint32_t offset, uint32_t bytes, int party, uint32_t clock, Proxy proxy);

  /// Fails where the tensor cores could not read these bytes for `thread`.
  void check_product_read(int thread, uint32_t offset, uint32_t bytes, const char* operation);
  /// What check_product_read found that bytes hold: what `party` wrote at `clock`, in the words from `index` on.
  struct Written {
    uint32_t clock, index;
    uint16_t party;
    Proxy proxy;
  };
  /// A product that is under way reads these bytes until end_use. Appends what they hold to `written`, if given.
  void begin_use(uint32_t offset, uint32_t bytes, std::vector<Written>* written = nullptr);
  /// check_product_read for another thread of bytes in use, all of which hold what `written` says.
  void check_product_order(int thread, std::span<const Written> written, const char* operation) const;
  /// It has ended: the warps from `first_warp` on have read them, each at a moment of its own.
  void end_use(uint32_t offset, uint32_t bytes, int first_warp, std::span<const uint32_t> clocks);

  /// Makes 8 bytes an mbarrier.
  void place_barrier(int thread, uint32_t offset);
  /// Ordinary writes of `thread` until now become visible to the tensor cores and the copy engine.
  void fence(int thread) { fence_[thread] = order_->tick(); }

 private:
  static constexpr size_t kReservedBytes = 16 << 20, kDataOffset = 8 << 20;
  enum class State : uint8_t { kOrdinary, kArriving, kBarrier };
  struct Word {
    uint32_t write_clock, read_clock[2];
    uint16_t writer, reader[2];
    uint16_t generation, products;
    uint8_t write_mask, read_mask[2];  // bytes of the word
    uint8_t written;
    State state;
    Proxy write_proxy;
    uint8_t next_reader;
  };

  Word& word(uint32_t index) {
    Word& w = words_[index];
    if (w.generation != generation_) {
      w = Word{};
      w.generation = generation_;
    }
    return w;
  }
  template <typename Visit> void for_each_word(uint32_t offset, uint32_t bytes, Visit&& visit);
  void check_read(const Word& w, uint8_t mask, uint32_t index, int thread, Proxy proxy, const char* operation) const;
  void check_write(const Word& w, uint8_t mask, uint32_t index, int thread, const char* operation) const;
  void record_read(Word& w, uint8_t mask, int party, uint32_t clock, int thread);
  void check_order(const Written& written, int thread, Proxy proxy, const char* operation) const;
  void check_state(const Word& w, uint32_t index, int thread, const char* operation) const;
  [[noreturn]] void report_place(const void* address, uint32_t bytes, uint32_t alignment, const char* operation) const;
  [[noreturn]] void report_race(uint32_t index, int thread, const char* operation, const char* other, int party) const;

  unsigned char* reservation_;
  unsigned char* data_;
  uint32_t bytes_ = 0;
  uint16_t generation_ = 0;
  MemoryOrder* order_ = nullptr;
  std::vector<Word> words_;
  std::vector<uint32_t> fence_;  // per thread: the moment of its last fence
};

}  // namespace usmlite::emu
