// Arithmetic on packed numbers, against whole numbers that hold every exact result.
#include <bit>
#include <cmath>
#include <limits>

#include "device_check.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

constexpr int kThreads = 128;

// ---- exact arithmetic: a value is `fraction` / 2^60 ----

using Exact = __int128;
constexpr int kFractionBits = 60;

/// The number with these bits, which must be finite and a multiple of 2^-60.
template <int Mantissa> Exact exact(uint16_t bits) {
  constexpr int kBias = (1 << (14 - Mantissa)) - 1;
  const int exponent = (bits & 0x7fff) >> Mantissa;
  const Exact mantissa = (bits & ((1 << Mantissa) - 1)) + (exponent ? 1 << Mantissa : 0);
  const Exact magnitude = mantissa << (kFractionBits - kBias - Mantissa + std::max(exponent, 1));
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// The nearest number to `value` / 2^60, ties to even. Signs of zero are the caller's.
template <int Mantissa> uint16_t nearest(Exact value) {
  constexpr int kBias = (1 << (14 - Mantissa)) - 1, kLargest = (1 << (15 - Mantissa)) - 1;
  const uint16_t sign = value < 0 ? 0x8000 : 0;
  unsigned __int128 magnitude = static_cast<unsigned __int128>(value < 0 ? -value : value);
  int top = -1;  // the highest bit
  for (unsigned __int128 rest = magnitude; rest; rest >>= 1) ++top;
  int exponent = std::max(top - kFractionBits + kBias, 1);
  const int dropped = kFractionBits - kBias - Mantissa + exponent;
  unsigned __int128 kept = dropped > 0 ? magnitude >> dropped : magnitude << -dropped;
  if (dropped > 0) {
    const unsigned __int128 rest = magnitude - (kept << dropped), half = static_cast<unsigned __int128>(1) << (dropped - 1);
    if (rest > half || (rest == half && (kept & 1))) ++kept;
  }
  if (kept >> (Mantissa + 1)) kept >>= 1, ++exponent;
  if (!(kept >> Mantissa)) return static_cast<uint16_t>(sign | static_cast<uint16_t>(kept));  // below the normal numbers
  if (exponent >= kLargest) return static_cast<uint16_t>(sign | kLargest << Mantissa);
  return static_cast<uint16_t>(sign | exponent << Mantissa | (static_cast<uint16_t>(kept) & ((1 << Mantissa) - 1)));
}

template <typename T> inline constexpr int kMantissa = std::is_same_v<T, Float16> ? 10 : 7;

template <typename T>
__global__ void pairs_kernel(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    to[i] = ptx::fma2<T>(a[i], b[i], c[i]);
    to[count + i] = ptx::multiply2<T>(a[i], b[i]);
    to[2 * count + i] = ptx::subtract2<T>(a[i], c[i]);
  }
}

/// A factor p of a product p * q that is a multiple of 2^-60 and at most 2^38 with any other.
template <typename T> uint16_t random_factor(std::mt19937& random) {
  const uint16_t sign = random() % 2 ? 0x8000 : 0;
  if (kMantissa<T> == 10) return static_cast<uint16_t>(sign | random_between(random, 0, 0x7bff));
  return static_cast<uint16_t>(sign | (127 + random_between(random, -20, 18)) << 7 | random_between(random, 0, 127));
}

template <typename T> std::string check_pairs() {
  std::mt19937 random(3);
  constexpr int kCount = 20000, kBits = kMantissa<T>;
  std::vector<uint32_t> a(kCount), b(kCount), c(kCount);
  std::vector<uint16_t> expected(kCount * 6);
  for (int i = 0; i < kCount; ++i)
    for (int half = 0; half < 2; ++half) {
      uint16_t x = random_factor<T>(random), y = random_factor<T>(random), z = random_factor<T>(random);
      const Exact product = (exact<kBits>(x) >> 30) * (exact<kBits>(y) >> 30);
      // Cancellation, and sums half way between two numbers.
      if (i % 4 == 1) z = nearest<kBits>(-product);
      if (i % 4 == 2) y = kBits == 10 ? 0x3c00 : 0x3f80;
      if ((z & 0x7fff) >> kBits == (1 << (15 - kBits)) - 1) z = 0;
      const Exact p = (exact<kBits>(x) >> 30) * (exact<kBits>(y) >> 30);
      const Exact sums[3] = {p + exact<kBits>(z), p, exact<kBits>(x) - exact<kBits>(z)};
      const bool product_sign = (x ^ y) >> 15, z_sign = z >> 15, x_sign = x >> 15;
      const bool zero_signs[3] = {product_sign && z_sign, product_sign, x_sign && !z_sign};
      for (int which = 0; which < 3; ++which)
        expected[2 * (which * kCount + i) + half] =
            sums[which] == 0 ? (zero_signs[which] ? 0x8000 : 0) : nearest<kBits>(sums[which]);
      a[i] |= static_cast<uint32_t>(x) << 16 * half;
      b[i] |= static_cast<uint32_t>(y) << 16 * half;
      c[i] |= static_cast<uint32_t>(z) << 16 * half;
    }
  // What is no number, and too large.
  const uint32_t infinity = kBits == 10 ? 0x7c00 : 0x7f80, one = kBits == 10 ? 0x3c00 : 0x3f80, most = infinity - 1,
                 nan = 0x7fff;
  const uint32_t special[][6] = {{infinity, one, one, infinity, infinity, infinity},
                                 {infinity, 0, one, nan, nan, infinity},
                                 {most, most, one, infinity, infinity, most},
                                 {infinity, one, infinity | 0x8000, nan, infinity, infinity},
                                 {nan, one, one, nan, nan, nan}};
  for (int i = 0; i < 5; ++i) {
    a[i] = special[i][0], b[i] = special[i][1], c[i] = special[i][2];
    for (int which = 0; which < 3; ++which) {
      expected[2 * (which * kCount + i)] = static_cast<uint16_t>(special[i][3 + which]);
      expected[2 * (which * kCount + i) + 1] = 0;
    }
  }
  std::vector<uint32_t> words(kCount * 3);
  std::memcpy(words.data(), expected.data(), words.size() * 4);
  const DeviceArray<uint32_t> device_a(a), device_b(b), device_c(c), to(std::vector<uint32_t>(words.size()));
  launch(pairs_kernel<T>, {1, 1, 1, kThreads, 0}, nullptr, device_a.data(), device_b.data(), device_c.data(), to.data(),
         kCount);
  const std::vector<uint32_t> actual = to.values();
  for (size_t i = 0; i < words.size(); ++i)
    if (actual[i] != words[i]) {
      char sentence[200];
      static const char* const names[] = {"fma2", "multiply2", "subtract2"};
      std::snprintf(sentence, sizeof(sentence), "%s of %08x, %08x, %08x is %08x, not %08x", names[i / kCount], a[i % kCount],
                    b[i % kCount], c[i % kCount], actual[i], words[i]);
      return sentence;
    }
  return "";
}

template <typename T> __global__ void round_kernel(const float* from, uint32_t* rounded, float* decoded, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count / 2; i += kThreads)
    rounded[i] = ptx::round2<T>(from[2 * i], from[2 * i + 1]);
  for (int i = static_cast<int>(threadIdx.x); i < 65536; i += kThreads) decoded[i] = ptx::to_float<T>(static_cast<uint16_t>(i));
}
template <typename T> std::string check_rounding() {
  std::mt19937 random(5);
  constexpr int kCount = 40000, kBits = kMantissa<T>;
  std::vector<float> from(kCount);
  std::vector<uint16_t> expected(kCount);
  for (int i = 0; i < kCount; ++i) {
    // Half of them at or right beside the middle between two 16-bit floats.
    uint32_t bits =
        (static_cast<uint32_t>(127 + random_between(random, kBits == 10 ? -26 : -30, kBits == 10 ? 17 : 30)) << 23) |
        (random() & 0x7fffff) | (random() & 0x80000000u);
    if (i % 2)
      bits = (bits & ~((1u << (23 - kBits)) - 1)) + (1u << (22 - kBits)) + static_cast<uint32_t>(random_between(random, -1, 1));
    from[i] = std::bit_cast<float>(bits);
    expected[i] = nearest<kBits>(static_cast<Exact>(std::ldexp(static_cast<double>(from[i]), kFractionBits)));
  }
  from[0] = 0.0f, expected[0] = 0;
  from[1] = -0.0f, expected[1] = 0x8000;
  from[2] = INFINITY, expected[2] = kBits == 10 ? 0x7c00 : 0x7f80;
  from[3] = NAN, expected[3] = 0x7fff;
  from[4] = 3.4e38f, expected[4] = kBits == 10 ? 0x7c00 : 0x7f80;
  std::vector<uint32_t> words(kCount / 2);
  std::memcpy(words.data(), expected.data(), words.size() * 4);
  const DeviceArray<float> source(from), decoded{std::vector<float>(65536)};
  const DeviceArray<uint32_t> rounded{std::vector<uint32_t>(words.size())};
  launch(round_kernel<T>, {1, 1, 1, kThreads, 0}, nullptr, source.data(), rounded.data(), decoded.data(), kCount);
  const std::string problem = difference(rounded.values(), words);
  if (!problem.empty()) return "round2: " + problem;
  const std::vector<float> values = decoded.values();
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = static_cast<int>((bits & 0x7fff) >> kBits), mantissa = static_cast<int>(bits & ((1u << kBits) - 1)),
              largest = (1 << (15 - kBits)) - 1;
    if (exponent == largest && mantissa != 0
            ? values[bits] == values[bits]
            : values[bits] != (bits & 0x8000 ? -1.0f : 1.0f) *
                                  (exponent == largest ? INFINITY
                                                       : std::ldexp(static_cast<float>(mantissa + (exponent ? 1 << kBits : 0)),
                                                                    std::max(exponent, 1) - (1 << (14 - kBits)) + 1 - kBits)))
      return "to_float of " + std::to_string(bits) + " is " + std::to_string(values[bits]);
  }
  return "";
}

__global__ void words_kernel(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    to[i] = ptx::lop3<0xea>(a[i], b[i], c[i]);
    to[count + i] = ptx::lop3<0x2d>(a[i], b[i], c[i]);
    to[2 * count + i] = ptx::byte_permute(a[i], b[i], c[i]);
    to[3 * count + i] = ptx::funnel_shift_right(a[i], b[i], c[i] & 31);
  }
}
std::string check_words() {
  std::mt19937 random(9);
  constexpr int kCount = 1000;
  std::vector<uint32_t> a(kCount), b(kCount), c(kCount), expected(4 * kCount);
  for (int i = 0; i < kCount; ++i) {
    a[i] = random(), b[i] = random(), c[i] = random();
    expected[i] = (a[i] & b[i]) | c[i];
    uint32_t table = 0, permuted = 0;
    for (int bit = 0; bit < 32; ++bit)
      table |= (0x2du >> ((a[i] >> bit & 1) * 4 + (b[i] >> bit & 1) * 2 + (c[i] >> bit & 1)) & 1u) << bit;
    expected[kCount + i] = table;
    for (int byte = 0; byte < 4; ++byte) {
      const uint32_t choice = c[i] >> 4 * byte & 15, word = choice & 4 ? b[i] : a[i], value = word >> 8 * (choice & 3) & 0xff;
      permuted |= (choice < 8 ? value : value >= 0x80 ? 0xffu : 0u) << 8 * byte;
    }
    expected[2 * kCount + i] = permuted;
    const uint32_t shift = c[i] & 31;
    expected[3 * kCount + i] = shift == 0 ? a[i] : a[i] >> shift | b[i] << (32 - shift);
  }
  const DeviceArray<uint32_t> device_a(a), device_b(b), device_c(c), to(std::vector<uint32_t>(4 * kCount));
  launch(words_kernel, {1, 1, 1, kThreads, 0}, nullptr, device_a.data(), device_b.data(), device_c.data(), to.data(), kCount);
  return difference(to.values(), expected);
}

__global__ void functions_kernel(const float* from, float* exponentials, float* reciprocals, float* errors, int* whole, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    exponentials[i] = ptx::exponential(from[i]);
    reciprocals[i] = ptx::reciprocal(from[i]);
    errors[i] = ptx::error_function(from[i]);
    whole[i] = ptx::round_to_int(from[i]);
  }
}
std::string check_functions() {
  constexpr int kCount = 2001;
  std::vector<float> from(kCount);
  std::vector<int> whole(kCount);
  for (int i = 0; i < kCount; ++i) {
    from[i] = static_cast<float>(i - 1000) / 16.0f;
    whole[i] = static_cast<int>(std::nearbyint(static_cast<double>(from[i])));
  }
  from[0] = 3e10f, whole[0] = INT32_MAX;
  const DeviceArray<float> source(from), exponentials{std::vector<float>(kCount)}, reciprocals{std::vector<float>(kCount)},
      errors{std::vector<float>(kCount)};
  const DeviceArray<int> rounded{std::vector<int>(kCount)};
  launch(functions_kernel, {1, 1, 1, kThreads, 0}, nullptr, source.data(), exponentials.data(), reciprocals.data(),
         errors.data(), rounded.data(), kCount);
  const std::string problem = difference(rounded.values(), whole);
  if (!problem.empty()) return "round_to_int: " + problem;
  const std::vector<float> e = exponentials.values(), r = reciprocals.values(), f = errors.values();
  for (int i = 1; i < kCount; ++i) {
    // __expf: "maximum error 2 + floor(abs(1.173 x)) units in the last place" (CUDA C++ Programming Guide)
    const double exact_exponential = std::exp(static_cast<double>(from[i]));
    if (!(std::abs(e[i] - exact_exponential) <= exact_exponential * 0x1p-23 * (3 + 1.2 * std::abs(from[i]))))
      return "exponential of " + std::to_string(from[i]) + " is " + std::to_string(e[i]);
    if (!(std::abs(r[i] - 1.0 / from[i]) <= 0x1p-23 / std::abs(from[i]) || (from[i] == 0.0f && r[i] == 1.0f / from[i])))
      return "reciprocal of " + std::to_string(from[i]) + " is " + std::to_string(r[i]);
    if (!(std::abs(f[i] - std::erf(static_cast<double>(from[i]))) <= 3e-7))
      return "error_function of " + std::to_string(from[i]) + " is " + std::to_string(f[i]);
  }
  return "";
}

/// Where results leave the normal numbers: what a sigmoid of any float rests on.
std::string check_limits() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> from{100.0f, -100.0f, -88.0f, kInfinity, -kInfinity, kNaN, 0.0f, -0.0f, 3e38f, -3e38f, 1e-40f};
  const std::vector<float> of_exponential{kInfinity, 0.0f, 0.0f, kInfinity, 0.0f, kNaN, 1.0f, 1.0f, kInfinity, 0.0f, 1.0f};
  const std::vector<float> of_reciprocal{0.01f, -0.01f, -1.0f / 88.0f, 0.0f, -0.0f, kNaN, kInfinity, -kInfinity, 0.0f, -0.0f, kInfinity};
  const int count = static_cast<int>(from.size());
  const DeviceArray<float> source(from), exponentials{std::vector<float>(from.size())}, reciprocals{std::vector<float>(from.size())},
      errors{std::vector<float>(from.size())};
  const DeviceArray<int> rounded{std::vector<int>(from.size())};
  launch(functions_kernel, {1, 1, 1, kThreads, 0}, nullptr, source.data(), exponentials.data(), reciprocals.data(), errors.data(),
         rounded.data(), count);
  const auto same = [](float a, float b) {
    return a != a || b != b ? a != a && b != b : std::signbit(a) == std::signbit(b) && (a == b || std::abs(a - b) <= 2e-7f * std::abs(b));
  };
  const std::vector<float> e = exponentials.values(), r = reciprocals.values();
  for (int i = 0; i < count; ++i) {
    if (!same(e[i], of_exponential[i])) return "exponential of " + std::to_string(from[i]) + " is " + std::to_string(e[i]);
    if (!same(r[i], of_reciprocal[i])) return "reciprocal of " + std::to_string(from[i]) + " is " + std::to_string(r[i]);
  }
  return "";
}

}  // namespace

void check_number_instructions() {
  report("arithmetic of bf16 pairs", check_pairs<BFloat16>);
  report("arithmetic of f16 pairs", check_pairs<Float16>);
  report("rounding to bf16", check_rounding<BFloat16>);
  report("rounding to f16", check_rounding<Float16>);
  report("lop3, prmt, funnel shift", check_words);
  report("exponential, reciprocal, error function, rounding to int", check_functions);
  report("exponential and reciprocal at their limits", check_limits);
}

}  // namespace usmlite::check
