// Weights rearranged on the host into the order of fragment_order.hpp.
#pragma once
#include <cstdint>
#include <vector>

#include "codec/pack.hpp"
#include "cuda/matmul_arguments.hpp"

namespace usmlite::cuda {

/// The order of a weight's channels: as they are, or, for kGlu, values and gates interleaved: in each tile of 16 channels
/// eight of the first half of the rows (values), then the eight of the second half that gate them.
enum class ChannelOrder : uint8_t { kPlain, kGlu };

struct ArrangedWeight {
  WeightView view;  // its pointers are null
  ChannelOrder order;
  std::vector<uint8_t> tiles;
  std::vector<uint8_t> metadata;
  std::vector<uint16_t> group_scales;
  std::vector<float> channel_scales;
  std::vector<float> channel_sums;
  std::vector<float> whole_scales;
  std::vector<float> zero_points;
  std::vector<uint32_t> kept;
};

/// Where row `row` of `rows` is among the arranged channels.
int64_t arranged_channel(ChannelOrder order, int64_t rows, int64_t row);

/// Throws UNSUPPORTED_SPEC when the kernels have no form for this weight and arithmetic, BAD_CHECKPOINT for impossible
/// codes.
ArrangedWeight arrange_weight(const codec::Unpacker& source, Arithmetic arithmetic, ChannelOrder order);

}  // namespace usmlite::cuda
