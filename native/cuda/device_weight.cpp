#include "cuda/device_weight.hpp"

#include "core/error.hpp"

namespace usmlite::cuda {
namespace {

/// Each part begins where wide loads and bulk copies may begin.
size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

template <typename T> size_t bytes_of(const std::vector<T>& values) { return values.size() * sizeof(T); }

}  // namespace

DeviceWeight::DeviceWeight(const ArrangedWeight& arranged, std::string spec, int highest_activation)
    : view_(arranged.view), order_(arranged.order), spec_(std::move(spec)), highest_activation_(highest_activation),
      tile_bytes_(bytes_of(arranged.tiles)), metadata_bytes_(bytes_of(arranged.metadata)), group_scale_bytes_(bytes_of(arranged.group_scales)),
      channel_scale_bytes_(bytes_of(arranged.channel_scales)),
      memory_(aligned(tile_bytes_) + aligned(metadata_bytes_) + aligned(group_scale_bytes_) + aligned(channel_scale_bytes_),
              default_stream(), device_allocator::Lifetime::kLasting) {
  const StreamHandle stream = default_stream()->handle();
  uint8_t* place = memory_.data();
  const auto put = [&](const void* part, size_t bytes) -> uint8_t* {
    if (bytes == 0) return nullptr;
    uint8_t* begin = place;
    driver::copy_to_device(begin, bytes, part, bytes, bytes, 1, stream);
    place += aligned(bytes);
    return begin;
  };
  view_.tiles = put(arranged.tiles.data(), tile_bytes_);
  view_.metadata = put(arranged.metadata.data(), metadata_bytes_);
  view_.group_scales = reinterpret_cast<const uint16_t*>(put(arranged.group_scales.data(), group_scale_bytes_));
  view_.channel_scales = reinterpret_cast<const float*>(put(arranged.channel_scales.data(), channel_scale_bytes_));
  driver::synchronize(stream);
}

DeviceWeight::DeviceWeight(const DeviceWeight& weight, int times)
    : view_(weight.view_), order_(weight.order_), spec_(weight.spec_), highest_activation_(weight.highest_activation_),
      tile_bytes_(weight.tile_bytes_ * times),
      metadata_bytes_(weight.metadata_bytes_ * times), group_scale_bytes_(weight.group_scale_bytes_ * times),
      channel_scale_bytes_(weight.channel_scale_bytes_ * times),
      memory_(aligned(tile_bytes_) + aligned(metadata_bytes_) + aligned(group_scale_bytes_) + aligned(channel_scale_bytes_),
              default_stream(), device_allocator::Lifetime::kLasting) {
  if (times < 1 || view_.channels % kBlockChannels != 0) {
    throw Error(error_code::kInvalidArgument, "only a weight with a multiple of 64 channels can be repeated, at least once");
  }
  view_.channels *= times;
  view_.blocks *= times;
  const StreamHandle stream = default_stream()->handle();
  uint8_t* place = memory_.data();
  const auto repeat = [&](const void* part, size_t bytes) -> uint8_t* {  // blocks come first in the order of every part
    if (bytes == 0) return nullptr;
    uint8_t* begin = place;
    for (int i = 0; i < times; ++i) driver::copy_on_device(begin + bytes * static_cast<size_t>(i), part, bytes, stream);
    place += aligned(bytes * static_cast<size_t>(times));
    return begin;
  };
  view_.tiles = repeat(weight.view_.tiles, weight.tile_bytes_);
  view_.metadata = repeat(weight.view_.metadata, weight.metadata_bytes_);
  view_.group_scales = reinterpret_cast<const uint16_t*>(repeat(weight.view_.group_scales, weight.group_scale_bytes_));
  view_.channel_scales = reinterpret_cast<const float*>(repeat(weight.view_.channel_scales, weight.channel_scale_bytes_));
  driver::synchronize(stream);
}

DeviceWeight::DeviceWeight(int channels, int inputs, std::string spec, int highest_activation)
    : view_{.codes = Codes::kInt8,
            .arithmetic = Arithmetic::kInt8,
            .channels = channels,
            .inputs = inputs,
            .blocks = (channels + kBlockChannels - 1) / kBlockChannels,
            .slices = (inputs + kStoredPerSlice - 1) / kStoredPerSlice},
      order_(ChannelOrder::kPlain), spec_(std::move(spec)), highest_activation_(highest_activation), fillable_(true),
      tile_bytes_(static_cast<size_t>(view_.blocks) * static_cast<size_t>(view_.slices) * (kBlockChannels / kTileChannels) * tile_bytes(Codes::kInt8)),
      metadata_bytes_(0), group_scale_bytes_(0), channel_scale_bytes_(static_cast<size_t>(view_.blocks) * kBlockChannels * sizeof(float)),
      memory_(aligned(tile_bytes_) + aligned(channel_scale_bytes_), default_stream(), device_allocator::Lifetime::kLasting) {
  view_.tiles = memory_.data();
  view_.channel_scales = reinterpret_cast<const float*>(memory_.data() + aligned(tile_bytes_));
}

DeviceWeight::~DeviceWeight() {
  try {
    driver::synchronize_all();
  } catch (const Error&) {
    // A GPU that has failed says so to whoever asks it for results.
  }
}

ArrangedWeight DeviceWeight::read_back() const {
  ArrangedWeight weight{view_, order_, {}, {}, {}, {}};
  const StreamHandle stream = default_stream()->handle();
  const auto get = [&](const auto* part, auto& values, size_t bytes) {
    values.resize(bytes / sizeof(values[0]));
    if (bytes) driver::copy_to_host(values.data(), bytes, part, bytes, bytes, 1, stream);
  };
  get(view_.tiles, weight.tiles, tile_bytes_);
  get(view_.metadata, weight.metadata, metadata_bytes_);
  get(view_.group_scales, weight.group_scales, group_scale_bytes_);
  get(view_.channel_scales, weight.channel_scales, channel_scale_bytes_);
  return weight;
}

}  // namespace usmlite::cuda
