// Copies of rows: embeddings, caches, and zeros around sequences.
#pragma once
#include <cstdint>

namespace usmlite {

/// to(count, width) = rows indices[0 .. count) of from(.., width)
void gather_rows(const float* from, int64_t width, const int32_t* indices, int64_t count, float* to);

/// Copies each of `sequences` packed sequences of rows of `width` floats with `before` and `after` rows of zeros around it.
void pad_sequences(const float* from, int64_t width, const int32_t* offsets, int64_t sequences, int64_t before, int64_t after, float* to);

}  // namespace usmlite
