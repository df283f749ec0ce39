// NormalFloat, four bits (QLoRA, arXiv 2305.14314).
#pragma once
#include <array>
#include <cstdint>

namespace usmlite::codec {

/// The levels of nf4, in ascending order: round(127 q) for the quantiles q of QLoRA, so that they multiply as bytes.
inline constexpr std::array<int8_t, 16> kNormalFloat4Levels = {-127, -88, -67, -50, -36, -23, -12, 0,
                                                               10,   20,  31,  43,  56,  71,  92,  127};

}  // namespace usmlite::codec
