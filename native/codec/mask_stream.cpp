#include "codec/mask_stream.hpp"

#include <bit>
#include <string>

#include "core/error.hpp"

namespace usmlite::codec {

MaskStream::MaskStream(int kept, int of) : ranks_(size_t{1} << of) {
  for (uint32_t mask = 0; mask < ranks_.size(); ++mask) {
    if (std::popcount(mask) != kept) continue;
    ranks_[mask] = static_cast<uint16_t>(masks_.size());
    masks_.push_back(static_cast<uint16_t>(mask));
  }
  rank_bits_ = std::bit_width(masks_.size() - 1);
  for (size_t place = 1; place * masks_.size() <= 256; place *= masks_.size()) {
    places_.push_back(static_cast<uint32_t>(place));
  }
  if (static_cast<int>(places_.size()) * rank_bits_ <= 8) places_.clear();
  for (uint32_t byte = 0; byte < 256 && !places_.empty(); ++byte) {
    for (const uint32_t place : places_) {
      const uint32_t rest = byte / place;
      // The last digit is not reduced, so that a byte beyond the last combination is found out.
      digits_.push_back(static_cast<uint16_t>(place == places_.back() ? rest : rest % masks_.size()));
    }
  }
}

int64_t MaskStream::bytes(int64_t groups) const {
  if (places_.empty()) return (groups * rank_bits_ + 7) / 8;
  const int64_t per_byte = static_cast<int64_t>(places_.size());
  return (groups + per_byte - 1) / per_byte;
}

void MaskStream::write(uint8_t* stream, int64_t group, uint32_t mask) const {
  const uint32_t rank = ranks_[mask];
  if (places_.empty()) {
    write_bits(stream, group * rank_bits_, rank_bits_, rank);
  } else {
    const int64_t per_byte = static_cast<int64_t>(places_.size());
    uint8_t& byte = stream[group / per_byte];
    byte = static_cast<uint8_t>(byte + rank * places_[group % per_byte]);
  }
}

void MaskStream::fail(int64_t group, uint32_t rank) const {
  throw Error(error_code::kBadCheckpoint, "weight mask of group " + std::to_string(group) + " has rank " +
                                              std::to_string(rank) + "; there are only " +
                                              std::to_string(masks_.size()) + " masks");
}

}  // namespace usmlite::codec
