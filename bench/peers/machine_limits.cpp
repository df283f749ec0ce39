// The peer process of bench/roofline.ts: what one thread of this machine can do at most. Writes one line of JSON:
// {"vpdpbusd": Gop/s, "fma": Gflop/s, "read": {"KiB": GB/s, ..}}, the best of many short rounds.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr int64_t kIterations = 200000;
#define SIXTEEN(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define CLOBBERS                                                                                                     \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15"
#define DOT(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n"
#define FMA(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n"

// Sixteen independent instructions, over and over: more than latency times throughput.
double dot_products() {
  int64_t n = kIterations;
  const double begin = now();
  asm volatile("1:\n" SIXTEEN(DOT) "dec %0\n jnz 1b\n" : "+r"(n)::CLOBBERS);
  return 16.0 * kIterations * 128 / (now() - begin) / 1e9;
}
double multiply_adds() {
  int64_t n = kIterations;
  const double begin = now();
  asm volatile("1:\n" SIXTEEN(FMA) "dec %0\n jnz 1b\n" : "+r"(n)::CLOBBERS);
  return 16.0 * kIterations * 32 / (now() - begin) / 1e9;
}

double read(const char* data, size_t bytes) {
  const size_t passes = std::max<size_t>(1, (size_t{32} << 20) / bytes);
  __m512i sums[4] = {};
  const double begin = now();
  for (size_t pass = 0; pass < passes; ++pass) {
    for (size_t at = 0; at < bytes; at += 256) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[i] = _mm512_add_epi8(sums[i], _mm512_loadu_si512(data + at + 64 * i));
    }
  }
  const double seconds = now() - begin;
  volatile int sink = _mm512_reduce_add_epi32(_mm512_add_epi8(_mm512_add_epi8(sums[0], sums[1]), _mm512_add_epi8(sums[2], sums[3])));
  (void)sink;
  return static_cast<double>(bytes * passes) / seconds / 1e9;
}

}  // namespace

int main() {
  double dot = 0.0, fma = 0.0;
  for (int round = 0; round < 200; ++round) {
    dot = std::max(dot, dot_products());
    fma = std::max(fma, multiply_adds());
  }
  std::printf("{\"vpdpbusd\": %.0f, \"fma\": %.0f, \"read\": {", dot, fma);
  bool first = true;
  for (const size_t kib : {32, 512, 4096, 8192, 16384, 65536, 262144}) {
    const size_t bytes = kib << 10;
    char* data = static_cast<char*>(std::aligned_alloc(4096, bytes));
    std::memset(data, 1, bytes);
    double best = 0.0;
    for (int round = 0; round < 12; ++round) best = std::max(best, read(data, bytes));
    std::printf("%s\"%zu\": %.1f", first ? "" : ", ", kib, best);
    first = false;
    std::free(data);
  }
  std::printf("}}\n");
}
