#include "core/row_copies.hpp"

#include <algorithm>

namespace usmlite {

void gather_rows(const float* from, int64_t width, const int32_t* indices, int64_t count, float* to) {
  for (int64_t row = 0; row < count; ++row) std::copy_n(from + indices[row] * width, width, to + row * width);
}

void pad_sequences(const float* from, int64_t width, const int32_t* offsets, int64_t sequences, int64_t before, int64_t after, float* to) {
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const int64_t begin = offsets[sequence], rows = offsets[sequence + 1] - begin;
    to = std::fill_n(to, before * width, 0.0f);
    to = std::copy_n(from + begin * width, rows * width, to);
    to = std::fill_n(to, after * width, 0.0f);
  }
}

}  // namespace usmlite
