// N:M masks as a dense stream of ranks: which of the C(M, N) subsets each group keeps.
#pragma once
#include <cstdint>
#include <vector>

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
  /// The mask of `group` in a stream of `stream_bytes` bytes. Throws BAD_CHECKPOINT when no mask has that rank.
  uint32_t read(const uint8_t* stream, int64_t stream_bytes, int64_t group) const;

 private:
  std::vector<uint16_t> masks_;    // by rank
  std::vector<uint16_t> ranks_;    // by mask
  std::vector<uint32_t> places_;   // value of each digit of a byte; empty: bit stream
  int rank_bits_;
};

}  // namespace usmlite::codec
