#include "codec/rounded_weight.hpp"

#include <algorithm>
#include <cmath>

#include "codec/quantize.hpp"
#include "core/error.hpp"

namespace usmlite::codec {

RoundedWeight::RoundedWeight(const WeightSpec& spec, int64_t rows, int64_t columns, const float* weight, const uint8_t* mask,
                             const float* scales, const float* zero_points)
    : spec_(spec), rows_(rows), columns_(columns), weight_(weight), mask_(mask), scales_(scales), zero_points_(zero_points) {
  if (!spec.is_integer()) throw Error(error_code::kInvalidArgument, to_text(spec) + " has no levels to round to");
  if (spec.is_sparse()) check_mask();
}

void RoundedWeight::check_mask() const {
  if (!mask_) throw Error(error_code::kInvalidArgument, to_text(spec_) + " needs a mask");
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t begin = 0; begin < columns_; begin += spec_.of) {
      const int64_t end = std::min(begin + spec_.of, columns_);
      int64_t kept = 0;
      for (int64_t i = begin; i < end; ++i) kept += mask_[row * columns_ + i] != 0;
      if (kept > spec_.kept || (!spec_.has_zero() && kept < std::min<int64_t>(spec_.kept, end - begin))) {
        throw Error(error_code::kInvalidArgument, "the mask keeps " + std::to_string(kept) + " of the inputs from " +
                                                      std::to_string(begin) + " on, which does not fit " + to_text(spec_));
      }
    }
  }
}

void RoundedWeight::unpack_row(int64_t row, int32_t* levels, uint8_t* mask) const {
  const float* weight = weight_ + row * columns_;
  const uint8_t* kept = mask_ ? mask_ + row * columns_ : nullptr;
  const int64_t group = spec_.group_size ? spec_.group_size : columns_;
  const float low = static_cast<float>(spec_.lowest_level()), high = static_cast<float>(spec_.highest_level());
  for (int64_t begin = 0; begin < columns_; begin += group) {
    const int64_t end = std::min(begin + group, columns_);
    const GroupScale scale{scales(row)[begin / group], spec_.has_zero_points() ? zero_points(row)[begin / group] : 0.0f, false};
    if (spec_.format == NumberFormat::kNormalFloat4 || spec_.format == NumberFormat::kMidRise) {
      for (int64_t i = begin; i < end; ++i) levels[i] = static_cast<int32_t>(nearest_level(spec_, weight[i], scale));
    } else {
      // nearest_level: bounds are whole numbers, so that rounding may come last, which is one instruction.
      for (int64_t i = begin; i < end; ++i) {
        levels[i] = static_cast<int32_t>(std::lrintf(std::clamp(weight[i] / scale.scale + scale.zero_point, low, high)));
      }
    }
  }
  for (int64_t i = 0; kept && i < columns_; ++i) levels[i] = kept[i] ? levels[i] : 0;
  if (!mask) return;
  for (int64_t i = 0; i < columns_; ++i) mask[i] = !kept || kept[i];
  if (spec_.is_sparse()) fill_up(mask);
}

// Where fewer than N are kept, zeros of the lowest pruned inputs are stored, as Packer has it.
void RoundedWeight::fill_up(uint8_t* mask) const {
  for (int64_t begin = 0; begin < columns_; begin += spec_.of) {
    const int64_t end = std::min(begin + spec_.of, columns_);
    int64_t missing = spec_.kept - std::count(mask + begin, mask + end, uint8_t{1});
    for (int64_t i = begin; i < end && missing > 0; ++i) {
      if (!mask[i]) mask[i] = 1, --missing;
    }
  }
}

}  // namespace usmlite::codec
