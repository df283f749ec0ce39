// Rows of activations in whole numbers, as register tiles read them.
#pragma once
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/activation_bytes.hpp"
#include "cpu/packed_matmul.hpp"

namespace usmlite::cpu::USMLITE_ISA {

using codec::PackedMatrix;

/// Channels whose sums lie next to each other: two panels.
inline constexpr int64_t kPairChannels = 2 * PackedMatrix::kChannels;

/// How rows lie for the tiles that multiply them.
struct RowLayout {
  int64_t height;       // of a tile
  int64_t piece = 1;    // windows of 16 inputs of a row that follow each other: 1, 2 or 4
  bool unsigned_codes;  // code + 128
};

/// Tiles of `height` rows. Within a tile a piece of a row follows the same piece of the row before, then comes the next piece.
/// Rows that fill up the last tile are zeros. Codes are signed bytes, or unsigned ones; inputs beyond the last, to the end of
/// the last piece, are zero bytes either way.
class QuantizedRows {
 public:
  QuantizedRows(const PackedMatrix& weight, ActivationCoding coding, const RowLayout& layout, const float* x,
                const int64_t* starts, int64_t rows)
      : coding_(coding), rows_(rows), height_(layout.height), piece_(layout.piece), columns_(weight.columns()),
        windows_((weight.windows() + piece_ - 1) / piece_ * piece_), windows_per_scale_(weight.windows_per_scale()),
        groups_(weight.scale_groups()), unsigned_(layout.unsigned_codes),
        codes_(static_cast<size_t>(tiles() * tile_bytes())), scales_(scales_count()),
        zero_points_(scales_count()), sums_(unsigned_ ? 0 : scales_count() * static_cast<size_t>(groups_)) {
    constexpr int64_t kGrain = 1 << 14;  // inputs per thread below which waking one costs more than it saves
    parallel_for(rows, std::max<int64_t>(kGrain / std::max<int64_t>(columns_, 1), 1), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) quantize(x + (starts ? starts[row] : row * columns_), row);
    });
    for (int64_t row = rows; row < tiles() * height_; ++row) clear(row);
  }

  int64_t tiles() const { return (rows_ + height_ - 1) / height_; }
  const uint8_t* tile(int64_t index) const { return codes_.data() + index * tile_bytes(); }
  /// Of rows from `row` on.
  const float* scales(int64_t row) const { return scales_.data() + row; }
  const float* zero_points(int64_t row) const { return zero_points_.data() + row; }
  /// Sums of the codes of each row of a tile in each scale group, (groups, height); signed codes only.
  const int32_t* sums(int64_t tile) const { return sums_.data() + tile * groups_ * height_; }
  int64_t height() const { return height_; }
  /// Windows of a piece, and how many there are in a row.
  int64_t piece() const { return piece_; }
  int64_t pieces() const { return windows_ / piece_; }
  bool asymmetric() const { return coding_ == ActivationCoding::kInt8Asymmetric; }

 private:
  // code = round((x - low) * inverse) - half_range
  struct Coding {
    float low, inverse, largest, half_range;
  };

  int64_t tile_bytes() const { return windows_ * height_ * 16; }
  size_t scales_count() const { return static_cast<size_t>(tiles() * height_); }
  int32_t& sum(int64_t row, int64_t group) {
    return sums_[static_cast<size_t>((row / height_ * groups_ + group) * height_ + row % height_)];
  }
  uint8_t* window(int64_t row, int64_t index) {
    return codes_.data() + row / height_ * tile_bytes() + ((index / piece_ * height_ + row % height_) * piece_ + index % piece_) * 16;
  }

  void clear(int64_t row) {
    for (int64_t i = 0; i < windows_; ++i) std::memset(window(row, i), 0, 16);
    scales_[row] = zero_points_[row] = 0.0f;
    for (int64_t group = 0; !unsigned_ && group < groups_; ++group) sum(row, group) = 0;
  }

  // Finds scale and zero point of a row.
  Coding measure(const float* x, int64_t row) {
    const int32_t bits = largest_magnitude_bits(x, columns_);
    const float largest = std::bit_cast<float>(bits);
    const bool finite = bits < 0x7F800000;
    zero_points_[row] = 0.0f;
    if (!finite) {
      scales_[row] = std::numeric_limits<float>::quiet_NaN();
      return {};
    }
    if (asymmetric()) return measure_range(x, row);
    const bool zero = largest < kSmallestActivation;
    const float limit = coding_ == ActivationCoding::kInt4 ? 7.0f : 127.0f;
    scales_[row] = zero ? 0.0f : largest / limit;
    return {0.0f, zero ? 0.0f : limit / largest, limit, 0.0f};
  }

  Coding measure_range(const float* x, int64_t row) {
    Vector least = Vector::all(x[0]), most = least;
    for_each_vector(columns_, [&](int64_t i, int64_t lanes) {
      const Vector value = Vector::load(x + i, lanes).head(lanes, least);
      least = minimum(least, value);
      most = maximum(most, value.head(lanes, most));
    });
    const float low = -(Vector::zero() - least).maximum(), high = most.maximum();
    const float scale = high / 254.0f - low / 254.0f;
    if (scale < kSmallestActivation) {
      scales_[row] = 1.0f;
      zero_points_[row] = 0.0f - low;
      return {};
    }
    scales_[row] = scale;
    zero_points_[row] = -127.0f - low / scale;
    return {low, 1.0f / scale, 254.0f, 127.0f};
  }

  void quantize(const float* x, int64_t row) {
    const Coding coding = measure(x, row);
    if (asymmetric()) quantize<true>(x, row, coding);
    else quantize<false>(x, row, coding);
  }

  template <bool kAsymmetric>
  void quantize(const float* x, int64_t row, const Coding& coding) {
    const Vector low = Vector::all(coding.low), inverse = Vector::all(coding.inverse), largest = Vector::all(coding.largest);
    const Vector half_range = Vector::all(coding.half_range);
    const __m128i flip = _mm_set1_epi8(unsigned_ ? -128 : 0);
    const int64_t whole = columns_ / 16, step = (height_ - 1) * piece_ * 16 + 16, last_of_piece = piece_ - 1;
    const auto code = [&](Vector value) {
      if constexpr (!kAsymmetric) return value * inverse;  // rounded by to_bytes
      else return round(minimum((value - low) * inverse, largest)) - half_range;
    };
    uint8_t* to = window(row, 0);
    int64_t index = 0;
    const auto next = [&] { to += (index++ & last_of_piece) == last_of_piece ? step : 16; };
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t end = group + 1 == groups_ ? windows_ : (group + 1) * windows_per_scale_;
      __m128i total = _mm_setzero_si128();
      while (index < std::min(end, whole)) {
        Vector values[16 / Vector::kLanes];
#pragma GCC unroll 2
        for (int64_t i = 0; i < 16; i += Vector::kLanes) values[i / Vector::kLanes] = code(Vector::load(x + index * 16 + i));
        const __m128i bytes = to_bytes(values);
        total = add_bytes(total, bytes);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, flip));
        next();
      }
      while (index < end) {
        const int64_t rest = columns_ - index * 16;
        Vector values[16 / Vector::kLanes];
        for (int64_t i = 0; i < 16; i += Vector::kLanes) {
          values[i / Vector::kLanes] = code(Vector::load(x + index * 16 + i, std::clamp<int64_t>(rest - i, 0, Vector::kLanes)));
        }
        const __m128i bytes = _mm_and_si128(to_bytes(values), first_bytes(rest));
        total = add_bytes(total, bytes);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_and_si128(_mm_xor_si128(bytes, flip), first_bytes(rest)));
        next();
      }
      if (!unsigned_) sum(row, group) = horizontal_sum(total);
    }
  }

  // All bits of the first `count` (clamped) of 16 bytes.
  static __m128i first_bytes(int64_t count) {
    const __m128i place = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm_cmpgt_epi8(_mm_set1_epi8(static_cast<char>(std::clamp<int64_t>(count, 0, 16))), place);
  }
  static int32_t horizontal_sum(__m128i sum) {
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
  }

  ActivationCoding coding_;
  int64_t rows_, height_, piece_, columns_, windows_, windows_per_scale_, groups_;
  bool unsigned_;
  Scratch<uint8_t> codes_;
  Scratch<float> scales_, zero_points_;
  Scratch<int32_t> sums_;
};

}  // namespace usmlite::cpu::USMLITE_ISA
