#include "emu/matrix_product.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "emu/capability.hpp"
#include "emu/machine.hpp"
#include "emu/numbers.hpp"

namespace usmlite::emu {

namespace {

/// The positions of the two kept values in a group of four.
void read_positions(uint32_t four_bits, uint8_t* inputs, int group) {
  const uint32_t first = four_bits & 3, second = four_bits >> 2 & 3;
  if (first >= second)
    machine().fail("sparse metadata " + std::to_string(four_bits) + " keeps positions " + std::to_string(first) + " and " +
                   std::to_string(second) + "; the first must be the lower");
  inputs[2 * group] = static_cast<uint8_t>(4 * group + first);
  inputs[2 * group + 1] = static_cast<uint8_t>(4 * group + second);
}

template <int Columns> [[gnu::always_inline]] inline void multiply_by(const LeftRows& left, const float* right, int stride, float* sums) {
  constexpr int kTogether = Columns < 64 ? Columns : 64;  // whose sums are kept in registers
  for (int row = 0; row < 16; ++row) {
    for (int first = 0; first < Columns; first += kTogether) {
      float sum[kTogether] = {};
      for (int s = 0; s < left.stored; ++s) {
        const float value = left.values[row][s];
        const float* const from = right + left.inputs[row][s] * stride + first;
        for (int n = 0; n < kTogether; ++n) sum[n] += value * from[n];
      }
      std::memcpy(sums + row * Columns + first, sum, sizeof(sum));
    }
  }
}

}  // namespace

[[gnu::target_clones("avx2", "default")]] void multiply(const LeftRows& left, const float* right, int stride, int columns, float* sums) {
  switch (columns) {
    case 8: return multiply_by<8>(left, right, stride, sums);
    case 16: return multiply_by<16>(left, right, stride, sums);
    case 32: return multiply_by<32>(left, right, stride, sums);
    case 64: return multiply_by<64>(left, right, stride, sums);
    case 128: return multiply_by<128>(left, right, stride, sums);
    default: return multiply_by<256>(left, right, stride, sums);
  }
}

namespace {

void perform_warp_product(int, void* const* operands) {
  const auto of = [&](int lane) -> const WarpProduct& { return *static_cast<const WarpProduct*>(operands[lane]); };
  const Element element = of(0).element;
  const bool sparse = of(0).sparse;
  const uint32_t* registers[32];
  uint32_t metadata[32];
  for (int lane = 0; lane < 32; ++lane) registers[lane] = of(lane).a, metadata[lane] = of(lane).metadata;
  LeftRows left;
  gather_left(element, registers, sparse ? metadata : nullptr, of(0).selector, left);

  // b: register i of lane 4 g + t holds 32 bits from input (32-bit words of inputs) t + 4 i of column g.
  float right[64 * 8];
  const int words = sparse ? 4 : 2, per_word = 4 / element_bytes(element);
  for (int g = 0; g < 8; ++g) {
    uint32_t column[16];
    float values[64];
    for (int i = 0; i < words; ++i)
      for (int t = 0; t < 4; ++t) column[4 * i + t] = of(4 * g + t).b[i];
    for (int half = 0; half < words / 2; ++half) decode(element, column + 8 * half, values + 8 * per_word * half);
    for (int k = 0; k < 4 * words * per_word; ++k) right[8 * k + g] = values[k];
  }

  float sums[16 * 8];
  multiply(left, right, 8, 8, sums);
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const float sum = sums[8 * (g + 8 * (i / 2)) + 2 * t + i % 2];
      if (element == Element::kInt8) {
        int32_t& d = static_cast<int32_t*>(of(lane).d)[i];
        d = static_cast<int32_t>(static_cast<uint32_t>(d) + static_cast<uint32_t>(static_cast<int32_t>(sum)));
      } else {
        static_cast<float*>(of(lane).d)[i] += sum;
      }
    }
  }
}

}  // namespace

void decode(Element element, const void* bytes, float* values) {
  static const std::array<float, 65536> float16_values = [] {
    std::array<float, 65536> table;
    for (int i = 0; i < 65536; ++i) table[i] = decode_float16(static_cast<uint16_t>(i));
    return table;
  }();
  static const std::array<float, 256> float8_values = [] {
    std::array<float, 256> table;
    for (int i = 0; i < 256; ++i) table[i] = decode_float8_e4m3(static_cast<uint8_t>(i));
    return table;
  }();
  uint16_t halves[16];
  std::memcpy(halves, bytes, 32);
  const auto* const single = static_cast<const uint8_t*>(bytes);
  switch (element) {
    case Element::kBFloat16:
      for (int i = 0; i < 16; ++i) values[i] = decode_bfloat16(halves[i]);
      break;
    case Element::kFloat16:
      for (int i = 0; i < 16; ++i) values[i] = float16_values[halves[i]];
      break;
    case Element::kFloat8E4M3:
      for (int i = 0; i < 32; ++i) values[i] = float8_values[single[i]];
      break;
    case Element::kInt8:
      for (int i = 0; i < 32; ++i) values[i] = static_cast<int8_t>(single[i]);
      break;
  }
}

void gather_left(Element element, const uint32_t* const* registers, const uint32_t* metadata, int selector, LeftRows& left) {
  left.stored = step_inputs(element);
  for (int row = 0; row < 16; ++row) {
    // Register i of lane 4 g + t holds 32 bits of row g + 8 (i % 2), the word t + 4 (i / 2) of it.
    uint32_t words[8];
    const int g = row % 8;
    for (int word = 0; word < 8; ++word) words[word] = registers[4 * g + word % 4][row / 8 + 2 * (word / 4)];
    decode(element, words, left.values[row]);
    if (!metadata) {
      for (int s = 0; s < left.stored; ++s) left.inputs[row][s] = static_cast<uint8_t>(s);
    } else if (element_bytes(element) == 2) {
      for (int group = 0; group < 8; ++group)
        read_positions(metadata[4 * g + 2 * selector + group / 4] >> (16 * (row / 8) + 4 * (group % 4)) & 15, left.inputs[row],
                       group);
    } else {
      for (int group = 0; group < 16; ++group)
        read_positions(metadata[4 * g + row / 8 + 2 * (group / 8)] >> 4 * (group % 8) & 15, left.inputs[row], group);
    }
  }
}

void warp_product(WarpProduct& product) {
  if (product.element == Element::kFloat8E4M3 && capability().number < 89) machine().fail("mma of e4m3 numbers needs compute capability 8.9");
  machine().meet_warp(product.sparse ? "mma_sparse" : "mma", &product, perform_warp_product);
}

}  // namespace usmlite::emu
