// Attention in whole numbers beside its reference, over random shapes, with temporary arrays that have no byte to spare and hold NaN
// before they are written: AddressSanitizer finds what lies outside, and the comparison what was read too early.
#include "cpu/integer_relative_attention.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"

namespace usmlite {

void* allocator::allocate(size_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, 64, bytes > 0 ? bytes : 1) != 0) std::abort();
  return std::memset(block, 0xff, bytes);
}
void allocator::release(void* block, size_t) noexcept { std::free(block); }

int thread_count() { return 1; }
void parallel_dynamic(int64_t count, const std::function<void(int64_t)>& body) {
  for (int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace usmlite

namespace {

using namespace usmlite::cpu;
using Floats = std::unique_ptr<float[]>;

std::mt19937 random_bits(7);

int between(int low, int high) { return low + static_cast<int>(random_bits() % static_cast<unsigned>(high - low + 1)); }

Floats normal(int64_t count) {
  std::normal_distribution<float> distribution;
  Floats values(new float[static_cast<size_t>(count)]);
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = distribution(random_bits);
  return values;
}

bool agree(const float* found, const float* expected, int64_t count, const char* what) {
  for (int64_t i = 0; i < count; ++i) {
    if (std::fabs(found[i] - expected[i]) <= 0.02f) continue;
    std::printf("%s: %g instead of %g\n", what, found[i], expected[i]);
    return false;
  }
  return true;
}

bool compare(bool is_long) {
  std::vector<int32_t> offsets{0};
  for (int sequence = between(1, 3); sequence > 0; --sequence) offsets.push_back(offsets.back() + between(0, is_long ? 600 : 70));
  const int64_t frames = offsets.back(), key_heads = between(1, 2), heads = key_heads * between(1, 2), d = between(1, 70);
  int64_t longest = 1;
  for (size_t i = 1; i < offsets.size(); ++i) longest = std::max<int64_t>(longest, offsets[i] - offsets[i - 1]);
  const bool windowed = between(0, 1) == 1;
  const int64_t left = windowed ? between(0, 40) : longest - 1, right = windowed ? between(0, 40) : longest - 1, count = frames * heads * d;
  const Floats query = normal(count), key = normal(frames * key_heads * d), value = normal(frames * key_heads * d);
  const Floats positions = normal((left + right + 1) * heads * d), content_bias = normal(heads * d), position_bias = normal(heads * d);
  RelativeAttentionProblem p;
  static_cast<AttentionProblem&>(p) = {offsets.data(), static_cast<int64_t>(offsets.size()) - 1, heads, key_heads, d, 0.2f, nullptr, {},
                                       query.get(), key.get(), value.get()};
  p.positions = positions.get(), p.position_rows = left + right + 1, p.origin = left;
  p.content_bias = content_bias.get(), p.position_bias = position_bias.get();
  p.left = windowed ? left : -1, p.right = windowed ? right : -1;
  const Floats expected(new float[static_cast<size_t>(count)]), found(new float[static_cast<size_t>(count)]);
  const Floats log_sum(new float[static_cast<size_t>(frames * heads)]);
  bool good = true;
  const auto check = [&](const char* what, auto&& compute) {
    compute();
    good = good && agree(found.get(), expected.get(), count, what);
  };
  reference::integer_attention(p, expected.get(), nullptr);
  check("AVX2", [&] { avx2::integer_attention(p, found.get(), log_sum.get()); });
#ifdef WITH_AVX512
  check("AVX-512", [&] { avx512::integer_attention(p, found.get(), log_sum.get()); });
#endif
  reference::integer_relative_attention(p, expected.get());
  check("AVX2, relative", [&] { avx2::integer_relative_attention(p, found.get()); });
#ifdef WITH_AVX512
  check("AVX-512, relative", [&] { avx512::integer_relative_attention(p, found.get()); });
#endif
  return good;
}

}  // namespace

int main() {
  for (int round = 0; round < 100; ++round) {
    if (!compare(round % 10 == 0)) return 1;
  }
  std::puts("attention in whole numbers stays within its arrays");
}
