// What the kernels store of one row of a packed weight: its codes and their scales.
#pragma once
#include <cstdint>

#include "codec/pack.hpp"
#include "cuda/arranged_weight.hpp"
#include "cuda/kernel_codes.hpp"

namespace usmlite::cuda {

/// For rows in any order, from several threads at once.
class ChannelCoder {
 public:
  /// Makes room in `to` for scales and all that belongs to channels; its view must be complete. Both must outlive this.
  ChannelCoder(const codec::Unpacker& source, const KernelForm& form, ArrangedWeight& to);

  /// Whether kept weights have to be told from others.
  bool tells_kept() const { return tells_kept_; }
  /// Writes the codes of a row, or the bits of its floats, to `values` (inputs), 1 or 0 to `kept` (inputs) where tells_kept(), and the
  /// scales of the channel to their places.
  void code_row(int64_t row, int64_t channel, int32_t* values, uint8_t* kept) const;

 private:
  void code_float8(int64_t channel, int32_t* values) const;
  void widen(int64_t row, int64_t channel, int32_t* values, const uint8_t* kept) const;
  void code_with_zero_points(int64_t row, int64_t channel, int32_t* values, const uint8_t* kept) const;
  void code_grouped(int64_t row, int64_t channel, int32_t* values, const uint8_t* kept) const;
  void take_scales(int64_t row, int64_t channel) const;
  void check_float16(int64_t row, const int32_t* values) const;
  int nibble_factor() const { return form_.codes == Codes::kInt4 ? kNibbleFactor : 1; }

  const codec::Unpacker& source_;
  const codec::WeightSpec& spec_;
  KernelForm form_;
  ArrangedWeight& to_;
  LevelCoding coding_;
  int64_t inputs_, group_, groups_;  // of scales
  bool tells_kept_;
};

/// The sum of the weights of a channel of whole numbers, group by group: scale * (sum of levels - zero point * weights that are kept).
/// In double, which holds all but the last product exactly: on the GPU (integer_training.cu) it is the same.
class ChannelSum {
 public:
  void add_group(float scale, int64_t levels, float zero_point, int64_t kept) {
    sum_ += static_cast<double>(scale) * (static_cast<double>(levels) - static_cast<double>(zero_point) * static_cast<double>(kept));
  }
  float value() const { return static_cast<float>(sum_); }

 private:
  double sum_ = 0.0;
};

}  // namespace usmlite::cuda
