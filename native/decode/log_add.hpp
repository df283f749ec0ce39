// Sums of probabilities that are kept as logarithms.
#pragma once
#include <cmath>
#include <limits>

namespace usmlite::decode {

/// The logarithm of zero.
inline constexpr double kImpossible = -std::numeric_limits<double>::infinity();
// e to minus this is lost beside 1 in float64.
inline constexpr double kNegligible = 40;

/// ln(e^a + e^b).
inline double log_add(double a, double b) {
  const double larger = a > b ? a : b, smaller = a > b ? b : a;
  const bool adds_nothing = smaller < larger - kNegligible || smaller == kImpossible;
  return adds_nothing ? larger : larger + std::log1p(std::exp(smaller - larger));
}

}  // namespace usmlite::decode
