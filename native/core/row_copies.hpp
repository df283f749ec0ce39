// Copies of rows: embeddings, caches, zeros around sequences, rotated positions.
#pragma once
#include <cstdint>

#include "core/rotary_table.hpp"

namespace usmlite {

/// to(count, width) = rows indices[0 .. count) of from(.., width)
void gather_rows(const float* from, int64_t width, const int32_t* indices, int64_t count, float* to);

/// Row indices[i] of to(.., width) += row i of from(count, width).
void add_rows(const float* from, int64_t width, const int32_t* indices, int64_t count, float* to);

/// Copies each of `sequences` packed sequences of rows of `width` floats with `before` and `after` rows of zeros around it.
void pad_sequences(const float* from, int64_t width, const int32_t* offsets, int64_t sequences, int64_t before, int64_t after, float* to);

/// Copies packed sequences of rows of heads * head_dim floats, the halves of each head turned by the row's position, or back.
void rotate_rows(const float* from, int64_t heads, int64_t head_dim, const int32_t* offsets, int64_t sequences, const RotaryTable& table,
                 bool back, float* to);

}  // namespace usmlite
