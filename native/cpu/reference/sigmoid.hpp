#pragma once
#include <cmath>

namespace usmlite::cpu::reference {

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace usmlite::cpu::reference
