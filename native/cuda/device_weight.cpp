#include "cuda/device_weight.hpp"

#include <tuple>
#include <type_traits>

#include "core/error.hpp"

namespace usmlite::cuda {
namespace {

/// Each part begins where wide loads and bulk copies may begin.
size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

template <typename T> size_t bytes_of(const std::vector<T>& values) { return values.size() * sizeof(T); }

std::shared_ptr<DeviceMemory> memory_of_weights(size_t bytes) {
  const auto release = [](DeviceMemory* memory) {
    try {
      driver::synchronize_all();
    } catch (const Error&) {
      // A GPU that has failed says so to whoever asks it for results.
    }
    delete memory;
  };
  return {new DeviceMemory(bytes, default_stream(), device_allocator::Lifetime::kLasting), release};
}

}  // namespace

size_t DeviceWeight::PartBytes::total() const {
  return aligned(tiles) + aligned(metadata) + aligned(group_scales) + aligned(channel_scales);
}

DeviceWeight::DeviceWeight(const ArrangedWeight& arranged, std::string spec, int highest_activation)
    : view_(arranged.view), order_(arranged.order), spec_(std::move(spec)), highest_activation_(highest_activation),
      bytes_{bytes_of(arranged.tiles), bytes_of(arranged.metadata), bytes_of(arranged.group_scales), bytes_of(arranged.channel_scales)},
      memory_(memory_of_weights(bytes_.total())) {
  const StreamHandle stream = default_stream()->handle();
  uint8_t* place = memory_->data();
  const auto put = [&](const void* part, size_t bytes) -> uint8_t* {
    if (bytes == 0) return nullptr;
    uint8_t* begin = place;
    driver::copy_to_device(begin, bytes, part, bytes, bytes, 1, stream);
    place += aligned(bytes);
    return begin;
  };
  view_.tiles = put(arranged.tiles.data(), bytes_.tiles);
  view_.metadata = put(arranged.metadata.data(), bytes_.metadata);
  view_.group_scales = reinterpret_cast<const uint16_t*>(put(arranged.group_scales.data(), bytes_.group_scales));
  view_.channel_scales = reinterpret_cast<const float*>(put(arranged.channel_scales.data(), bytes_.channel_scales));
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
      bytes_{static_cast<size_t>(view_.blocks) * static_cast<size_t>(view_.slices) * (kBlockChannels / kTileChannels) * tile_bytes(Codes::kInt8), 0, 0,
             static_cast<size_t>(view_.blocks) * kBlockChannels * sizeof(float)},
      memory_(memory_of_weights(bytes_.total())) {
  view_.tiles = memory_->data();
  view_.channel_scales = reinterpret_cast<const float*>(memory_->data() + aligned(bytes_.tiles));
}

DeviceWeight DeviceWeight::stack(std::span<const std::shared_ptr<DeviceWeight>> weights, bool may_stay) {
  const DeviceWeight& first = *weights.front();
  const auto kind = [](const DeviceWeight& w) {
    return std::tuple(w.spec_, w.view_.codes, w.view_.arithmetic, w.view_.sparse, w.view_.inputs, w.view_.group_size, w.order_, w.highest_activation_);
  };
  DeviceWeight whole = first;
  whole.view_.channels = whole.view_.blocks = 0;
  whole.bytes_ = {};
  bool stay = may_stay;
  for (const std::shared_ptr<DeviceWeight>& weight : weights) {
    if (kind(*weight) != kind(first) || weight->view_.channels % kBlockChannels != 0 || weight->fillable_) {
      throw Error(error_code::kInvalidArgument, "weights that are to lie one below the other must be of one kind, each with a multiple of 64 channels");
    }
    stay = stay && weight->shares_memory_with(first) && weight->view_.tiles == first.view_.tiles + whole.bytes_.tiles;
    whole.view_.channels += weight->view_.channels;
    whole.view_.blocks += weight->view_.blocks;
    const PartBytes& bytes = weight->bytes_;
    whole.bytes_ = {whole.bytes_.tiles + bytes.tiles, whole.bytes_.metadata + bytes.metadata, whole.bytes_.group_scales + bytes.group_scales,
                    whole.bytes_.channel_scales + bytes.channel_scales};
  }
  if (stay) return whole;

  whole.memory_ = memory_of_weights(whole.bytes_.total());
  const StreamHandle stream = default_stream()->handle();
  uint8_t* place = whole.memory_->data();
  const auto put = [&](auto WeightView::*part, size_t PartBytes::*bytes) {  // blocks come first in the order of every part
    if (whole.bytes_.*bytes == 0) return;
    uint8_t* begin = place;
    for (const std::shared_ptr<DeviceWeight>& weight : weights) {
      driver::copy_on_device(begin, weight->view_.*part, weight->bytes_.*bytes, stream);
      begin += weight->bytes_.*bytes;
    }
    whole.view_.*part = reinterpret_cast<std::remove_reference_t<decltype(whole.view_.*part)>>(place);
    place += aligned(whole.bytes_.*bytes);
  };
  put(&WeightView::tiles, &PartBytes::tiles);
  put(&WeightView::metadata, &PartBytes::metadata);
  put(&WeightView::group_scales, &PartBytes::group_scales);
  put(&WeightView::channel_scales, &PartBytes::channel_scales);
  driver::synchronize(stream);
  return whole;
}

DeviceWeight DeviceWeight::part(int begin, int count) const {
  DeviceWeight part = *this;
  part.view_.channels = count * kBlockChannels;
  part.view_.blocks = count;
  const auto cut = [&](auto WeightView::*address, size_t PartBytes::*bytes) {
    const size_t of_block = bytes_.*bytes / static_cast<size_t>(view_.blocks);
    part.bytes_.*bytes = of_block * static_cast<size_t>(count);
    if (view_.*address) part.view_.*address += of_block * static_cast<size_t>(begin) / sizeof(*(view_.*address));
  };
  cut(&WeightView::tiles, &PartBytes::tiles);
  cut(&WeightView::metadata, &PartBytes::metadata);
  cut(&WeightView::group_scales, &PartBytes::group_scales);
  cut(&WeightView::channel_scales, &PartBytes::channel_scales);
  return part;
}

ArrangedWeight DeviceWeight::read_back() const {
  ArrangedWeight weight{view_, order_, {}, {}, {}, {}};
  const StreamHandle stream = default_stream()->handle();
  const auto get = [&](const auto* part, auto& values, size_t bytes) {
    values.resize(bytes / sizeof(values[0]));
    if (bytes) driver::copy_to_host(values.data(), bytes, part, bytes, bytes, 1, stream);
  };
  get(view_.tiles, weight.tiles, bytes_.tiles);
  get(view_.metadata, weight.metadata, bytes_.metadata);
  get(view_.group_scales, weight.group_scales, bytes_.group_scales);
  get(view_.channel_scales, weight.channel_scales, bytes_.channel_scales);
  return weight;
}

}  // namespace usmlite::cuda
