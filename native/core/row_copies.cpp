#include "core/row_copies.hpp"

#include <algorithm>

namespace usmlite {

void gather_rows(const float* from, int64_t width, const int32_t* indices, int64_t count, float* to) {
  for (int64_t row = 0; row < count; ++row) std::copy_n(from + indices[row] * width, width, to + row * width);
}

void add_rows(const float* from, int64_t width, const int32_t* indices, int64_t count, float* to) {
  for (int64_t row = 0; row < count; ++row) {
    float* sum = to + indices[row] * width;
    for (int64_t i = 0; i < width; ++i) sum[i] += from[row * width + i];
  }
}

void pad_sequences(const float* from, int64_t width, const int32_t* offsets, int64_t sequences, int64_t before, int64_t after, float* to) {
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const int64_t begin = offsets[sequence], rows = offsets[sequence + 1] - begin;
    to = std::fill_n(to, before * width, 0.0f);
    to = std::copy_n(from + begin * width, rows * width, to);
    to = std::fill_n(to, after * width, 0.0f);
  }
}

void rotate_rows(const float* from, int64_t heads, int64_t head_dim, const int32_t* offsets, int64_t sequences, const RotaryTable& table,
                 bool back, float* to) {
  const int64_t half = head_dim / 2;
  const float sense = back ? -1.0f : 1.0f;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    for (int64_t row = offsets[sequence]; row < offsets[sequence + 1]; ++row) {
      const float* cosine = table.cosine.data() + (row - offsets[sequence]) * half;
      const float* sine = table.sine.data() + (row - offsets[sequence]) * half;
      for (int64_t at = row * heads * head_dim; at < (row + 1) * heads * head_dim; at += head_dim) {
        for (int64_t i = 0; i < half; ++i) {
          const float first = from[at + i], second = from[at + half + i];
          to[at + i] = first * cosine[i] - second * sense * sine[i];
          to[at + half + i] = second * cosine[i] + first * sense * sine[i];
        }
      }
    }
  }
}

}  // namespace usmlite
