#include "cuda/channel_coder.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "cuda/narrow_float.hpp"

namespace usmlite::cuda {
namespace {

/// The power of two that makes the largest of some magnitudes 1 to 2, whatever it was: float16 reaches from 6e-5 to 65504.
float unit_of(float largest) { return largest > 0.0f ? std::ldexp(1.0f, std::max(std::ilogb(largest), -126)) : 1.0f; }

}  // namespace

ChannelCoder::ChannelCoder(const codec::Unpacker& source, const KernelForm& form, ArrangedWeight& to)
    : source_(source), spec_(source.layout().spec), form_(form), to_(to), coding_(level_coding(spec_)), inputs_(source.layout().columns),
      group_(spec_.group_size ? spec_.group_size : inputs_), groups_((inputs_ + group_ - 1) / group_),
      tells_kept_(spec_.is_sparse() && (spec_.has_zero_points() || has_zero_points(form.codes) || (form.grouped_int8 && coding_.shift != 0))) {
  const WeightView& view = to.view;
  const size_t channels = static_cast<size_t>(view.blocks) * kBlockChannels, of_groups = channels * static_cast<size_t>(groups_);
  const bool float16 = view.arithmetic == Arithmetic::kFloat16, whole = view.arithmetic == Arithmetic::kInt8;
  const bool narrow_groups = view.group_size && !whole;
  if (narrow_groups || has_zero_points(form.codes)) to.group_scales.assign(of_groups * rows_per_group(form.codes), 0);
  const bool scaled =
      view.codes == Codes::kFloat8 || (form.widened ? float16 : spec_.is_integer() && !form.grouped_int8 && (!narrow_groups || float16));
  if (scaled) to.channel_scales.assign(channels, 1.0f);
  if (whole) to.channel_sums.assign(channels, 0.0f);
  if (!form.grouped_int8) return;
  to.view.level_step = coding_.step;
  to.view.level_shift = coding_.shift * nibble_factor();
  to.whole_scales.assign(of_groups, 1.0f);
  if (spec_.has_zero_points()) to.zero_points.assign(of_groups, 0.0f);
}

void ChannelCoder::code_row(int64_t row, int64_t channel, int32_t* values, uint8_t* kept) const {
  source_.unpack_row(row, values, tells_kept_ ? kept : nullptr);
  if (form_.codes == Codes::kFloat8) return code_float8(channel, values);
  if (form_.widened) widen(row, channel, values, kept);
  if (form_.codes == Codes::kFloat16Bit) return check_float16(row, values);
  if (form_.grouped_int8) return code_grouped(row, channel, values, kept);
  if (has_zero_points(form_.codes)) return code_with_zero_points(row, channel, values, kept);
  take_scales(row, channel);
  if (to_.channel_sums.empty()) return;
  ChannelSum sum;
  int64_t levels = 0;
  for (int64_t i = 0; i < inputs_; ++i) levels += values[i];
  sum.add_group(source_.scales(row)[0], levels, 0.0f, 0);
  to_.channel_sums[static_cast<size_t>(channel)] = sum.value();
}

void ChannelCoder::code_float8(int64_t channel, int32_t* values) const {
  float largest = 0.0f;
  for (int64_t i = 0; i < inputs_; ++i) largest = std::max(largest, std::fabs(std::bit_cast<float>(values[i])));
  const float scale = largest > 0.0f ? std::max(largest / kLargestFloat8, 1e-30f) : 1.0f;
  to_.channel_scales[static_cast<size_t>(channel)] = scale;
  for (int64_t i = 0; i < inputs_; ++i) values[i] = std::bit_cast<int32_t>(std::bit_cast<float>(values[i]) / scale);
}

void ChannelCoder::check_float16(int64_t row, const int32_t* values) const {
  if (to_.view.arithmetic != Arithmetic::kFloat16) return;
  for (int64_t i = 0; i < inputs_; ++i) {
    const float value = std::bit_cast<float>(values[i]);
    if (std::fabs(value) > kLargestFloat16) {
      unsupported_on_gpu(spec_,
                         "row " + std::to_string(row) + " holds " + std::to_string(value) + ", beyond float16's 65504; use bfloat16 arithmetic");
    }
  }
}

void ChannelCoder::widen(int64_t row, int64_t channel, int32_t* values, const uint8_t* kept) const {
  const float *const scales = source_.scales(row), *const zero_points = source_.zero_points(row);
  float largest = 0.0f;
  for (int64_t i = 0; i < inputs_; ++i) {
    const int64_t group = i / group_;
    const float level = static_cast<float>(values[i]) - (zero_points ? zero_points[group] : 0.0f);
    const float weight = tells_kept_ && !kept[i] ? 0.0f : scales[group] * level;
    values[i] = std::bit_cast<int32_t>(weight);
    largest = std::max(largest, std::fabs(weight));
  }
  if (to_.channel_scales.empty()) return;
  const float unit = to_.channel_scales[static_cast<size_t>(channel)] = unit_of(largest);
  for (int64_t i = 0; i < inputs_; ++i) values[i] = std::bit_cast<int32_t>(std::bit_cast<float>(values[i]) / unit);
}

void ChannelCoder::code_with_zero_points(int64_t row, int64_t channel, int32_t* values, const uint8_t* kept) const {
  // The odd numbers of midrise8 are 2 (code - 127.5).
  const bool odd = !spec_.has_zero_points();
  const auto scale_of = [&](int64_t group) { return double{source_.scales(row)[group]} * (odd ? 2.0 : 1.0); };
  const auto zero_point_of = [&](int64_t group) { return odd ? 127.5 : double{source_.zero_points(row)[group]}; };
  const auto counts = [&](int64_t i) { return !tells_kept_ || kept[i]; };
  const bool float16 = to_.view.arithmetic == Arithmetic::kFloat16;
  const auto narrow = [&](double value) { return float16 ? to_float16(static_cast<float>(value)) : to_bfloat16(static_cast<float>(value)); };
  const auto widen = [&](uint16_t bits) { return double{float16 ? from_float16(bits) : from_bfloat16(bits)}; };

  double largest = 0.0;
  for (int64_t i = 0; i < inputs_; ++i) {
    if (!counts(i)) continue;
    values[i] = static_cast<int32_t>(spec_.raw(values[i]));
    largest = std::max(largest, std::fabs(scale_of(i / group_) * (values[i] - zero_point_of(i / group_))));
  }
  double unit = float16 ? unit_of(static_cast<float>(largest)) : 1.0;
  for (int64_t group = 0; group < groups_; ++group) {
    const double scale = scale_of(group), zero_point = zero_point_of(group);
    int32_t lowest = std::numeric_limits<int32_t>::max(), highest = 0;
    int64_t sum = 0, count = 0;
    for (int64_t i = group * group_, end = std::min(i + group_, inputs_); i < end; ++i) {
      if (!counts(i)) continue;
      lowest = std::min(lowest, values[i]), highest = std::max(highest, values[i]);
      sum += values[i], ++count;
    }
    // One weight for all needs no step, which may be out of all proportion to it.
    const uint16_t step = lowest < highest ? narrow(scale / unit) : 0;
    const double near = std::clamp(std::round(zero_point), 0.0, static_cast<double>((1 << spec_.bits) - 1));
    const double mean = count > 0 ? static_cast<double>(sum) / static_cast<double>(count) : near;
    if (to_.view.group_size == 0) {  // makes up for what rounding changes
      const double weight = scale * (mean - zero_point);
      if (step) unit = scale / widen(step);
      else if (weight != 0.0) unit = weight;
    }
    // So that the mean of the group is right.
    const double rest = scale / unit * (mean - zero_point) - widen(step) * (mean - near);
    uint16_t* const rows = to_.group_scales.data() +
                           (channel / kBlockChannels * groups_ + group) * rows_per_group(form_.codes) * kBlockChannels + channel % kBlockChannels;
    rows[0] = step;
    rows[kBlockChannels] = narrow(near + code_bias(form_.codes, to_.view.arithmetic));
    rows[2 * kBlockChannels] = narrow(rest);
  }
  if (!to_.channel_scales.empty()) to_.channel_scales[static_cast<size_t>(channel)] = static_cast<float>(unit);
}

void ChannelCoder::code_grouped(int64_t row, int64_t channel, int32_t* values, const uint8_t* kept) const {
  const float *const scales = source_.scales(row), *const zero_points = source_.zero_points(row);
  ChannelSum sum;
  for (int64_t group = 0; group < groups_; ++group) {
    const int64_t begin = group * group_, end = std::min(begin + group_, inputs_);
    int64_t levels = 0, count = 0;
    for (int64_t i = begin; i < end; ++i) {
      const bool counted = !tells_kept_ || kept[i];
      levels += counted ? values[i] : 0, count += counted;
      values[i] = counted ? coding_.code(values[i]) : 0;
    }
    const size_t place =
        (static_cast<size_t>(channel / kBlockChannels) * static_cast<size_t>(groups_) + static_cast<size_t>(group)) * kBlockChannels +
        static_cast<size_t>(channel % kBlockChannels);
    to_.whole_scales[place] = scales[group];
    const float zero_point = zero_points ? zero_points[group] : 0.0f;
    if (zero_points) to_.zero_points[place] = zero_point * static_cast<float>(nibble_factor());
    sum.add_group(scales[group], levels, zero_point, count);
  }
  to_.channel_sums[static_cast<size_t>(channel)] = sum.value();
}

void ChannelCoder::take_scales(int64_t row, int64_t channel) const {
  const float* const scales = source_.scales(row);
  if (to_.view.group_size == 0) {
    to_.channel_scales[static_cast<size_t>(channel)] = scales[0];
    return;
  }
  const bool float16 = to_.view.arithmetic == Arithmetic::kFloat16;
  float unit = 1.0f;
  if (float16) unit = to_.channel_scales[static_cast<size_t>(channel)] = unit_of(*std::max_element(scales, scales + groups_));
  for (int64_t group = 0; group < groups_; ++group) {
    const float scale = scales[group] / unit;
    to_.group_scales[(static_cast<size_t>(channel / kBlockChannels) * static_cast<size_t>(groups_) + static_cast<size_t>(group)) * kBlockChannels +
                     static_cast<size_t>(channel % kBlockChannels)] = float16 ? to_float16(scale) : to_bfloat16(scale);
  }
}

}  // namespace usmlite::cuda
