#pragma once
#include <cstdint>

namespace usmlite {

/// a / b, rounded up; neither is negative.
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace usmlite
