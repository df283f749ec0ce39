// Sums of probabilities that are kept as logarithms.
#pragma once
#include <cmath>
#include <limits>

namespace usmlite::decode {

// e to minus this is lost beside 1 in float64.
inline constexpr double kNegligible = 40;

/// ln(e^a + e^b); minus infinity is the logarithm of zero.
inline double log_add(double a, double b) {
  const double larger = a > b ? a : b, smaller = a > b ? b : a;
  const bool adds_nothing = smaller < larger - kNegligible || smaller == -std::numeric_limits<double>::infinity();
  return adds_nothing ? larger : larger + std::log1p(std::exp(smaller - larger));
}

}  // namespace usmlite::decode
