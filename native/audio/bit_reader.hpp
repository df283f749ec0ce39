// Reads bits, most significant first, from bytes that may end too early.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

namespace usmlite::audio {

class BitReader {
 public:
  /// Thrown when the bytes end.
  struct OutOfBytes {};

  BitReader(const uint8_t* begin, size_t count) : begin_(begin), next_(begin), end_(begin + count) {}

  /// An unsigned value of 0 to 56 bits.
  uint64_t read(int bits) {
    if (bits == 0) return 0;
    need(bits);
    const uint64_t value = cache_ >> (64 - bits);
    drop(bits);
    return value;
  }
  /// A value of 1 to 56 bits in two's complement.
  int64_t read_signed(int bits) {
    need(bits);
    const int64_t value = static_cast<int64_t>(cache_) >> (64 - bits);
    drop(bits);
    return value;
  }
  /// The number of zeros before the next one, which is passed too.
  uint64_t read_zeros() {
    uint64_t zeros = 0;
    for (;;) {
      need(1);
      const int leading = std::countl_zero(cache_);
      if (leading < held_) {
        drop(leading + 1);
        return zeros + static_cast<uint64_t>(leading);
      }
      zeros += static_cast<uint64_t>(held_);
      cache_ = 0;
      held_ = 0;
    }
  }
  /// Passes over the rest of a begun byte; false when it holds a one.
  bool align() {
    const int bits = held_ % 8;
    return read(bits) == 0;
  }
  /// Whole bytes passed so far; call only when aligned.
  size_t bytes() const { return static_cast<size_t>(next_ - begin_) - static_cast<size_t>(held_ / 8); }

 private:
  // All bits of cache_ below the held_ upper ones are zero.
  void need(int bits) {
    if (held_ >= bits) return;
    while (held_ <= 56 && next_ < end_) {
      cache_ |= static_cast<uint64_t>(*next_++) << (56 - held_);
      held_ += 8;
    }
    if (held_ < bits) throw OutOfBytes();
  }
  void drop(int bits) {
    cache_ = bits == 64 ? 0 : cache_ << bits;
    held_ -= bits;
  }

  const uint8_t* begin_;
  const uint8_t* next_;
  const uint8_t* end_;
  uint64_t cache_ = 0;
  int held_ = 0;
};

}  // namespace usmlite::audio
