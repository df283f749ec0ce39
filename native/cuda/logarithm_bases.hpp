// What turns powers and logarithms of base 2, which GPUs compute, into those of base e.
#pragma once

namespace usmlite::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

}  // namespace usmlite::cuda
