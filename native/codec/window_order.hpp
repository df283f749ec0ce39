// The order of a convolution's weights: stored (out, in, kernel), multiplied as (out, kernel, in), because a window of
// frames is a row of kernel * in values.
#pragma once
#include <cstdint>

namespace usmlite::codec {

/// to (out, columns, rows) = from (out, rows, columns)
void swap_last_axes(const float* from, int64_t out, int64_t rows, int64_t columns, float* to);
void swap_last_axes(const uint8_t* from, int64_t out, int64_t rows, int64_t columns, uint8_t* to);

}  // namespace usmlite::codec
