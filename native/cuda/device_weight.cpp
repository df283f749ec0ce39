#include "cuda/device_weight.hpp"

#include <tuple>
#include <type_traits>

#include "core/error.hpp"
#include "cuda/kernel_codes.hpp"

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

template <typename Visit> void DeviceWeight::for_each_part(Visit&& visit) {
  visit(&WeightView::tiles, &ArrangedWeight::tiles, &PartBytes::tiles);
  visit(&WeightView::metadata, &ArrangedWeight::metadata, &PartBytes::metadata);
  visit(&WeightView::group_scales, &ArrangedWeight::group_scales, &PartBytes::group_scales);
  visit(&WeightView::channel_scales, &ArrangedWeight::channel_scales, &PartBytes::channel_scales);
  visit(&WeightView::channel_sums, &ArrangedWeight::channel_sums, &PartBytes::channel_sums);
  visit(&WeightView::whole_scales, &ArrangedWeight::whole_scales, &PartBytes::whole_scales);
  visit(&WeightView::zero_points, &ArrangedWeight::zero_points, &PartBytes::zero_points);
  visit(&WeightView::kept, &ArrangedWeight::kept, &PartBytes::kept);
}

size_t DeviceWeight::PartBytes::total() const {
  size_t bytes = 0;
  for_each_part([&](auto, auto, auto part) { bytes += aligned(this->*part); });
  return bytes;
}

DeviceWeight::DeviceWeight(const ArrangedWeight& arranged, std::string spec, RowCodes activations)
    : view_(arranged.view), order_(arranged.order), spec_(std::move(spec)), activations_(activations), bytes_{} {
  for_each_part([&](auto, auto values, auto bytes) { bytes_.*bytes = bytes_of(arranged.*values); });
  memory_ = memory_of_weights(bytes_.total());
  const StreamHandle stream = default_stream().handle();
  place_parts();
  for_each_part([&](auto place, auto values, auto bytes) {
    if (bytes_.*bytes == 0) return;
    driver::copy_to_device(const_cast<void*>(static_cast<const void*>(view_.*place)), bytes_.*bytes, (arranged.*values).data(), bytes_.*bytes,
                           bytes_.*bytes, 1, stream);
  });
  driver::synchronize(stream);
}

DeviceWeight::DeviceWeight(int channels, int inputs, const codec::WeightSpec& spec, RowCodes activations)
    : view_{.codes = Codes::kInt8,
            .arithmetic = Arithmetic::kInt8,
            .channels = channels,
            .inputs = inputs,
            .blocks = (channels + kBlockChannels - 1) / kBlockChannels,
            .slices = (inputs + kStoredPerSlice - 1) / kStoredPerSlice,
            .group_size = static_cast<int>(spec.group_size)},
      order_(ChannelOrder::kPlain), spec_(codec::to_text(spec)), activations_(activations), fillable_(true), bytes_{} {
  const bool grouped = kernel_form(spec, Arithmetic::kInt8).grouped_int8;
  const LevelCoding coding = level_coding(spec);
  const size_t tiles = static_cast<size_t>(view_.blocks) * static_cast<size_t>(view_.slices) * (kBlockChannels / kTileChannels);
  const size_t of_channels = static_cast<size_t>(view_.blocks) * kBlockChannels * sizeof(float);
  const size_t of_groups = of_channels * static_cast<size_t>(spec.scales_per_row(inputs));
  bytes_.tiles = tiles * tile_bytes(Codes::kInt8);
  if (!grouped) bytes_.channel_scales = of_channels;
  if (activations == RowCodes::kInt8Asymmetric) bytes_.channel_sums = of_channels;
  if (grouped) {
    view_.level_step = coding.step, view_.level_shift = coding.shift;
    bytes_.whole_scales = of_groups;
    if (spec.has_zero_points()) bytes_.zero_points = of_groups;
    if (coding.shift != 0 && spec.is_sparse()) bytes_.kept = tiles * kKeptBytesPerTile;
  }
  memory_ = memory_of_weights(bytes_.total());
  place_parts();
}

void DeviceWeight::place_parts() {
  uint8_t* begin = memory_->data();
  for_each_part([&](auto place, auto, auto bytes) {
    if (bytes_.*bytes == 0) return;
    view_.*place = reinterpret_cast<std::remove_reference_t<decltype(view_.*place)>>(begin);
    begin += aligned(bytes_.*bytes);
  });
}

DeviceWeight DeviceWeight::stack(std::span<const std::shared_ptr<DeviceWeight>> weights, bool may_stay) {
  const DeviceWeight& first = *weights.front();
  const auto kind = [](const DeviceWeight& w) {
    return std::tuple(w.spec_, w.view_.codes, w.view_.arithmetic, w.view_.sparse, w.view_.inputs, w.view_.group_size, w.order_, w.activations_);
  };
  DeviceWeight whole = first;
  whole.view_.channels = whole.view_.blocks = 0;
  whole.bytes_ = {};
  bool stay = may_stay;
  for (const std::shared_ptr<DeviceWeight>& weight : weights) {
    if (kind(*weight) != kind(first) || weight->view_.channels % kBlockChannels != 0 || weight->fillable_) {
      throw Error(error_code::kInvalidArgument,
                  "weights that are to lie one below the other must be of one kind, each with a multiple of 64 channels");
    }
    stay = stay && weight->shares_memory_with(first) && weight->view_.tiles == first.view_.tiles + whole.bytes_.tiles;
    whole.view_.channels += weight->view_.channels;
    whole.view_.blocks += weight->view_.blocks;
    for_each_part([&](auto, auto, auto bytes) { whole.bytes_.*bytes += weight->bytes_.*bytes; });
  }
  if (stay) return whole;

  whole.memory_ = memory_of_weights(whole.bytes_.total());
  whole.place_parts();
  const StreamHandle stream = default_stream().handle();
  for_each_part([&](auto place, auto, auto bytes) {  // blocks come first in the order of every part
    auto* begin = reinterpret_cast<uint8_t*>(const_cast<void*>(static_cast<const void*>(whole.view_.*place)));
    for (const std::shared_ptr<DeviceWeight>& weight : weights) {
      if (weight->bytes_.*bytes == 0) continue;
      driver::copy_on_device(begin, weight->view_.*place, weight->bytes_.*bytes, stream);
      begin += weight->bytes_.*bytes;
    }
  });
  driver::synchronize(stream);
  return whole;
}

DeviceWeight DeviceWeight::part(int begin, int count) const {
  DeviceWeight part = *this;
  part.view_.channels = count * kBlockChannels;
  part.view_.blocks = count;
  for_each_part([&](auto place, auto, auto bytes) {
    const size_t of_block = bytes_.*bytes / static_cast<size_t>(view_.blocks);
    part.bytes_.*bytes = of_block * static_cast<size_t>(count);
    if (view_.*place) part.view_.*place += of_block * static_cast<size_t>(begin) / sizeof(*(view_.*place));
  });
  return part;
}

ArrangedWeight DeviceWeight::read_back() const {
  ArrangedWeight weight{};
  weight.view = view_, weight.order = order_;
  const StreamHandle stream = default_stream().handle();
  for_each_part([&](auto place, auto values, auto bytes) {
    auto& part = weight.*values;
    part.resize(bytes_.*bytes / sizeof(part[0]));
    if (bytes_.*bytes) driver::copy_to_host(part.data(), bytes_.*bytes, view_.*place, bytes_.*bytes, bytes_.*bytes, 1, stream);
  });
  return weight;
}

}  // namespace usmlite::cuda
