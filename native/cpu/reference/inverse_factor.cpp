#include "cpu/inverse_factor.hpp"

#include <cmath>
#include <vector>

namespace usmlite::cpu::reference {

bool inverse_factor(const float* moments, int64_t size, float damping, float* factor) {
  const float added = damping_of(moments, size, damping);
  std::vector<double> r(static_cast<size_t>(size * size)), u(r.size());
  for (int64_t j = size - 1; j >= 0; --j) {
    for (int64_t i = j; i >= 0; --i) {
      double sum = moments[i * size + j] + (i == j ? added : 0.0f);
      for (int64_t k = j + 1; k < size; ++k) sum -= r[i * size + k] * r[j * size + k];
      if (i == j && !(sum > 0.0)) return false;
      r[i * size + j] = i == j ? std::sqrt(sum) : sum / r[j * size + j];
    }
  }
  for (int64_t j = 0; j < size; ++j) {
    for (int64_t i = j; i >= 0; --i) {
      double sum = i == j ? 1.0 : 0.0;
      for (int64_t k = i + 1; k <= j; ++k) sum -= r[i * size + k] * u[k * size + j];
      u[i * size + j] = sum / r[i * size + i];
    }
  }
  for (size_t i = 0; i < u.size(); ++i) factor[i] = static_cast<float>(u[i]);
  return true;
}

}  // namespace usmlite::cpu::reference
