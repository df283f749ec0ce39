// The peer process of bench/peers/openblas.ts: multiplies matrices with OpenBLAS and tells how long it took.
// Reads lines "transposeA transposeB m n k repetitions" and answers each with the milliseconds of every repetition.
#include <cblas.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <vector>

namespace {

// Any values will do, as long as they are neither all equal nor denormal.
std::vector<float> values(size_t count) {
  std::vector<float> result(count);
  unsigned state = 1;
  for (float& value : result) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return result;
}

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int main() {
  std::printf("%s\n", openblas_get_config());
  std::fflush(stdout);
  std::vector<float> a, b, c;
  int transpose_a, transpose_b, m, n, k, repetitions;
  while (std::cin >> transpose_a >> transpose_b >> m >> n >> k >> repetitions) {
    const size_t a_size = static_cast<size_t>(m) * k, b_size = static_cast<size_t>(k) * n;
    if (a.size() != a_size) a = values(a_size);
    if (b.size() != b_size) b = values(b_size);
    c.resize(static_cast<size_t>(m) * n);
    for (int i = 0; i < repetitions; ++i) {
      const double begin = now();
      cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n,
                  k, 1.0f, a.data(), transpose_a ? m : k, b.data(), transpose_b ? k : n, 0.0f, c.data(), n);
      std::printf("%s%.6f", i ? " " : "", now() - begin);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}
