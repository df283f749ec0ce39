// N:M masks as a dense stream of ranks: which of the C(M, N) subsets each group keeps.
#pragma once
#include <cstdint>
#include <vector>

#include "codec/bit_stream.hpp"

namespace usmlite::codec {

/// The stream of masks for one N:M. A mask is a number whose bit i says that position i is kept; its rank is its place
/// among all masks with N bits in ascending order (1:M: the position; 2:4: 0011 0101 0110 1001 1010 1100 are 0..5).
/// Ranks are stored either as k base-C(M,N) digits per byte (first group in the lowest digit; 2:4: three in a byte) or
/// as a bit stream of the fewest bits that hold a rank, whichever is smaller; the bit stream on a tie.
class MaskStream {
 public:
  MaskStream(int kept, int of);

  int64_t bytes(int64_t groups) const;
  /// Exactly N bits of `mask` must be set, and the stream still be zero there.
  void write(uint8_t* stream, int64_t group, uint32_t mask) const;
  /// Calls take(i, mask) for the masks of groups first + i, i in 0..count-1, of a stream of `stream_bytes` bytes. Throws
  /// BAD_CHECKPOINT when no mask has a rank.
  template <typename Take>
  void read(const uint8_t* stream, int64_t stream_bytes, int64_t first, int64_t count, Take&& take) const;

 private:
  [[noreturn]] void fail(int64_t group, uint32_t rank) const;

  std::vector<uint16_t> masks_;   // by rank
  std::vector<uint16_t> ranks_;   // by mask
  std::vector<uint32_t> places_;  // value of each digit of a byte; empty: bit stream
  std::vector<uint16_t> digits_;  // by byte, then by digit: ranks
  int rank_bits_;
};

template <typename Take>
void MaskStream::read(const uint8_t* stream, int64_t stream_bytes, int64_t first, int64_t count, Take&& take) const {
  const auto emit = [&](int64_t i, uint32_t rank) {
    if (rank >= masks_.size()) fail(first + i, rank);
    take(i, masks_[rank]);
  };
  if (places_.empty()) {
    for (int64_t i = 0; i < count; ++i) emit(i, read_bits(stream, stream_bytes, (first + i) * rank_bits_, rank_bits_));
    return;
  }
  const int64_t per_byte = static_cast<int64_t>(places_.size());
  const uint8_t* next = stream + first / per_byte;
  int64_t digit = first % per_byte;
  for (int64_t i = 0; i < count; ++i) {
    emit(i, digits_[static_cast<size_t>(*next * per_byte + digit)]);
    if (++digit == per_byte) digit = 0, ++next;
  }
}

}  // namespace usmlite::codec
