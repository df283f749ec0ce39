// Packed products over arrays without a byte to spare, compared with the reference: built with AddressSanitizer by
// test/native/run.sh, so that a read or write past the end of anything ends the program.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "codec/pack.hpp"
#include "codec/packed_matrix.hpp"
#include "codec/quantize.hpp"
#include "cpu/packed_matmul.hpp"

namespace {

using namespace usmlite;

unsigned state = 1;
float next() { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1.0f; }
std::vector<float> values(int64_t count) {
  std::vector<float> result(static_cast<size_t>(count));
  for (float& value : result) value = next();
  result.shrink_to_fit();
  return result;
}

codec::PackedMatrix packed(const std::string& text, int64_t rows, int64_t columns) {
  const codec::PackedLayout layout(codec::parse_weight_spec(text), rows, columns);
  std::vector<uint8_t> codes(static_cast<size_t>(layout.code_bytes)), masks(static_cast<size_t>(layout.mask_bytes));
  std::vector<float> scales(static_cast<size_t>(layout.scale_count)), zero_points(static_cast<size_t>(layout.zero_point_count));
  codec::Packer packer(layout, {codes, scales, masks, zero_points});
  const std::vector<float> weights = values(rows * columns);
  std::vector<int32_t> levels(static_cast<size_t>(columns));
  std::vector<float> row_scales(static_cast<size_t>(layout.spec.scales_per_row(columns))), row_zero_points(row_scales.size());
  std::vector<uint8_t> mask(static_cast<size_t>(columns), 1);
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = weights.data() + row * columns;
    if (layout.spec.is_sparse()) codec::magnitude_mask(from, columns, layout.spec.kept, layout.spec.of, mask.data());
    codec::quantize_row(layout.spec, from, mask.data(), columns, levels.data(), row_scales.data(), row_zero_points.data());
    packer.pack_row(row, {levels.data(), row_scales.data(), row_zero_points.data(), mask.data()});
  }
  return codec::PackedMatrix(codec::Unpacker(layout, {codes, scales, masks, zero_points}));
}

int failures = 0;

void check(const std::string& text, int64_t m, int64_t n, int64_t k, cpu::Activation activation) {
  const codec::PackedMatrix weight = packed(text, n, k);
  const int64_t columns = activation == cpu::Activation::kGlu ? n / 2 : n;
  const std::vector<float> x = values(m * k), bias = values(n), residual = values(m * columns);
  cpu::MatmulEpilogue epilogue;
  epilogue.bias = bias.data();
  epilogue.activation = activation;
  epilogue.residual = residual.data();
  std::vector<float> expected(static_cast<size_t>(m * columns));
  cpu::reference::packed_matmul_int8(weight, m, x.data(), expected.data(), epilogue);
  const cpu::PackedSchedule tile_registers{16, 12, 12, 384, 8, 1};  // from as few rows as they take
  const auto compare = [&](const char* set, auto multiply, const cpu::PackedSchedule* schedule = nullptr) {
    std::vector<float> y(static_cast<size_t>(m * columns));
    multiply(weight, m, x.data(), y.data(), epilogue, nullptr, cpu::ActivationCoding::kInt8, schedule);
    for (size_t i = 0; i < y.size(); ++i) {
      if (std::fabs(y[i] - expected[i]) <= 1e-4f * (1.0f + std::fabs(expected[i]))) continue;
      std::printf("%s %s (%lld, %lld, %lld): %g, not %g\n", set, text.c_str(), static_cast<long long>(m), static_cast<long long>(n),
                  static_cast<long long>(k), static_cast<double>(y[i]), static_cast<double>(expected[i]));
      ++failures;
      return;
    }
  };
  if (__builtin_cpu_supports("avx2")) compare("avx2", cpu::avx2::packed_matmul_int8);
  for (const std::string& set : available_instruction_sets()) {
    if (set == "avx2vnni") compare("avx2vnni", cpu::avx2vnni::packed_matmul_int8);
#if defined(WITH_AVX512)
    if (set == "avx512") compare("avx512", cpu::avx512::packed_matmul_int8);
    if (set == "avx512") compare("avx512amx, with emulated tiles", cpu::avx512amx::packed_matmul_int8, &tile_registers);
#endif
  }
}

}  // namespace

int main() {
  const char* specs[] = {"int8", "int4", "int3/g32", "int2", "int1", "uint8", "uint4/g64", "midrise4", "midrise8", "ternary", "nf4",
                         "int4+2:4", "int8+1:4", "nf4+2:4", "midrise2+2:4", "ternary+1:4", "int4+3:5", "uint4+2:4", "uint8+1:4",
                         "midrise8+2:4", "int4/g32+1:4", "int8/g64+2:4"};
  const int64_t shapes[][3] = {{1, 1, 1}, {1, 17, 5}, {3, 34, 33}, {7, 16, 64}, {11, 50, 101}, {17, 33, 40}, {25, 66, 130}, {37, 32, 200}};
  for (const char* spec : specs) {
    for (const auto& [m, n, k] : shapes) {
      check(spec, m, n, k, cpu::Activation::kSilu);
      if (n % 2 == 0) check(spec, m, n, k, cpu::Activation::kGlu);
    }
  }
  std::printf("%s\n", failures ? "failed" : "packed products stay within their arrays");
  return failures ? 1 : 0;
}
