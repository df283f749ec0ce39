// Turns the codes of a tile that a lane holds (fragment_order.hpp) into `a` fragments of tensor-core products, step by step.
//
// Integer codes become 16-bit floats without conversions: bits placed in the mantissa of a number of known exponent make
// 128 + code (bfloat16, 0x4300) or 1024 + code (float16, 0x6400); subtracting the constant is exact. Channel and group
// scales are not applied here, nor are zero points: scale_fragment and place_fragment do that. For 8-bit arithmetic, int4 is
// moved to the high nibble: sixteen times the code (see `code_factor`).
#pragma once

#include <bit>

#include "codec/normal_float4.hpp"
#include "cuda/fragment_order.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

/// The type that the tensor cores multiply for an arithmetic.
template <Arithmetic A> struct OperandOf;
template <> struct OperandOf<Arithmetic::kBFloat16> { using Type = BFloat16; };
template <> struct OperandOf<Arithmetic::kFloat16> { using Type = Float16; };
template <> struct OperandOf<Arithmetic::kInt8> { using Type = Int8; };
template <> struct OperandOf<Arithmetic::kFloat8> { using Type = Float8E4M3; };
template <Arithmetic A> using Operand = typename OperandOf<A>::Type;

template <Arithmetic A> inline constexpr bool kIs16Bit = A == Arithmetic::kBFloat16 || A == Arithmetic::kFloat16;

/// Products of 16 (8-bit arithmetic: 32) stored columns in a tile.
template <Arithmetic A> inline constexpr int kStepsPerTile = kIs16Bit<A> ? 4 : 2;

/// What a fragment's values have to be multiplied with to be codes.
__host__ __device__ constexpr float code_factor(Codes codes, Arithmetic arithmetic) {
  return codes == Codes::kInt4 && arithmetic == Arithmetic::kInt8 ? 1.0f / kNibbleFactor : 1.0f;
}

/// Words of codes that each lane holds of a tile.
template <Codes C> inline constexpr int kCodeWords = tile_bytes(C) / (32 * 4);

/// Reads a lane's words of the tile at `tile`, all its planes; `read` takes a const uint4*, uint2* or uint32_t*.
template <Codes C, typename Read>
__device__ __forceinline__ void read_codes(uint32_t (&words)[kCodeWords<C>], const uint8_t* tile, int lane, Read&& read) {
  constexpr int kCount = kCodeWords<C>;
  if constexpr (kCount >= 4) {
#pragma unroll
    for (int plane = 0; plane < kCount / 4; ++plane) {
      const uint4 v = read(reinterpret_cast<const uint4*>(tile) + plane * 32 + lane);
      words[4 * plane] = v.x, words[4 * plane + 1] = v.y, words[4 * plane + 2] = v.z, words[4 * plane + 3] = v.w;
    }
  } else {
    if constexpr (kCount >= 2) {
      const uint2 v = read(reinterpret_cast<const uint2*>(tile) + lane);
      words[0] = v.x, words[1] = v.y;
    }
    if constexpr (kCount != 2) words[kCount - 1] = read(reinterpret_cast<const uint32_t*>(tile) + (kCount - 1) * 32 + lane);
  }
}

/// The mantissa trick for a 16-bit float type: kExponent | bits is kBase + bits for bits < 2^kBits.
template <typename T> struct Mantissa;
template <> struct Mantissa<BFloat16> {
  static constexpr uint32_t kExponent = 0x43004300, kOne = 0x3f803f80;
  static constexpr int kBits = 7;
  /// Both halves: the float kBase + offset, offset <= 128.
  static __host__ __device__ constexpr uint32_t base_plus(int offset) { return (0x4300u + offset) * 0x10001u; }
};
template <> struct Mantissa<Float16> {
  static constexpr uint32_t kExponent = 0x64006400, kOne = 0x3c003c00;
  static constexpr int kBits = 10;
  static __host__ __device__ constexpr uint32_t base_plus(int offset) { return (0x6400u + offset) * 0x10001u; }
};

/// (a & Mask) | b in one instruction.
template <uint32_t Mask> __device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t b) { return ptx::lop3<0xea>(a, Mask, b); }

/// Dequantizer<C, A>::fragment<Step>(words, a): the `a` fragment of a step of the tile whose codes are `words`.
template <Codes C, Arithmetic A> struct Dequantizer;

template <Arithmetic A> struct Dequantizer<Codes::kFloat16Bit, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[16], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = words[4 * Step + r];
  }
};

template <> struct Dequantizer<Codes::kInt8, Arithmetic::kFloat16> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[8], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const uint32_t word = words[4 * (Step / 2) + 2 * (Step % 2) + r / 2];
      const uint32_t biased = ptx::byte_permute(word, Mantissa<Float16>::kExponent, r % 2 ? 0x5351 : 0x5250);
      a[r] = ptx::subtract2<Float16>(biased, Mantissa<Float16>::base_plus(128));
    }
  }
};

/// Eight bits do not fit the mantissa: of code + 128, the low seven bits make 128 + bits, the top bit chooses whether
/// 128 or 256 is subtracted.
template <> struct Dequantizer<Codes::kInt8, Arithmetic::kBFloat16> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[8], uint32_t (&a)[4]) {
    constexpr uint32_t kExponent = Mantissa<BFloat16>::kExponent;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const uint32_t word = words[4 * (Step / 2) + 2 * (Step % 2) + r / 2] >> (r % 2 ? 8 : 0);
      const uint32_t biased = and_or<0x007f007f>(word, kExponent);
      const uint32_t bias = ptx::lop3<0xae>(word, 0x00800080, kExponent);  // (~word & 0x80) | exponent
      a[r] = ptx::subtract2<BFloat16>(biased, bias);
    }
  }
};

/// The codes in the fields of `Bits` bits from `position` on in both halves of the word; a field holds code + Bias.
template <typename T, int Bits, int Bias>
__device__ __forceinline__ uint32_t small_field(uint32_t word, int position) {
  constexpr uint32_t kMask = ((1u << Bits) - 1) * 0x10001u;
  return ptx::subtract2<T>(and_or<kMask>(word >> position, Mantissa<T>::kExponent), Mantissa<T>::base_plus(Bias));
}

template <Arithmetic A> struct Dequantizer<Codes::kInt4, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[4], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = small_field<Operand<A>, 4, 8>(words[Step], 4 * r);
  }
};

template <Arithmetic A> struct Dequantizer<Codes::kInt2, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[2], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = small_field<Operand<A>, 2, 2>(words[Step / 2], 2 * (r + 4 * (Step % 2)));
  }
};

template <Arithmetic A> struct Dequantizer<Codes::kInt3, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[3], uint32_t (&a)[4]) {
    using T = Operand<A>;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const uint32_t low = and_or<0x00030003>(words[Step / 2] >> (2 * (r + 4 * (Step % 2))), Mantissa<T>::kExponent);
      const int position = r + 4 * Step;  // of the high bit, which belongs at 2
      const uint32_t high = position >= 2 ? words[2] >> (position - 2) : words[2] << (2 - position);
      a[r] = ptx::subtract2<T>(and_or<0x00040004>(high, low), Mantissa<T>::base_plus(4));
    }
  }
};

/// Codes with zero points come out with code_bias added, which place_fragment takes away together with the zero point.
template <typename T, int Bits> __device__ __forceinline__ uint32_t biased_field(uint32_t word, int position) {
  return and_or<((1u << Bits) - 1) * 0x10001u>(word >> position, Mantissa<T>::kExponent);
}

template <> struct Dequantizer<Codes::kUint8, Arithmetic::kBFloat16> : Dequantizer<Codes::kInt8, Arithmetic::kBFloat16> {};

template <> struct Dequantizer<Codes::kUint8, Arithmetic::kFloat16> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[8], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      a[r] = ptx::byte_permute(words[4 * (Step / 2) + 2 * (Step % 2) + r / 2], Mantissa<Float16>::kExponent, r % 2 ? 0x5351 : 0x5250);
    }
  }
};

template <Arithmetic A> struct Dequantizer<Codes::kUint4, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[4], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = biased_field<Operand<A>, 4>(words[Step], 4 * r);
  }
};

template <Arithmetic A> struct Dequantizer<Codes::kUint2, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[2], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = biased_field<Operand<A>, 2>(words[Step / 2], 2 * (r + 4 * (Step % 2)));
  }
};

/// +1 or -1.
template <Arithmetic A> struct Dequantizer<Codes::kInt1, A> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[1], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      a[r] = ptx::lop3<0xae>(words[0] << (15 - r - 4 * Step), 0x80008000, Mantissa<Operand<A>>::kOne);  // (~bit & sign) | 1
    }
  }
};

/// Bits of a 16-bit float nearest to `value`, which is 0 or a normal number of the type.
template <typename T> constexpr uint32_t constant_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 31 << 15, magnitude = bits & 0x7fffffffu;
  if (magnitude == 0) return sign;
  constexpr int kDropped = 23 - Mantissa<T>::kBits;
  const uint32_t rebias = kDropped == 13 ? (127u - 15u) << 23 : 0;
  return sign | ((magnitude - rebias + (1u << (kDropped - 1)) - 1 + ((magnitude >> kDropped) & 1)) >> kDropped);
}

/// Byte `Byte` of the 16-bit levels Begin..Begin + 3: a quarter of a table for byte_permute.
template <typename T, int Begin, int Byte> inline constexpr uint32_t kLevelBytes = [] {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= (constant_bits<T>(codec::kNormalFloat4Levels[Begin + i]) >> (8 * Byte) & 0xff) << (8 * i);
  return word;
}();

template <Arithmetic A> struct Dequantizer<Codes::kNormalFloat4, A> {
  /// Bytes `Byte` of the levels with the four indices that are nibbles of a 16-bit field: `low` their low three bits (the
  /// place in a half of the table), `half` chooses for each between the two halves.
  template <int Byte> static __device__ __forceinline__ uint32_t look_up(uint32_t low, uint32_t half) {
    using T = Operand<A>;
    return ptx::byte_permute(ptx::byte_permute(kLevelBytes<T, 0, Byte>, kLevelBytes<T, 4, Byte>, low),
                             ptx::byte_permute(kLevelBytes<T, 8, Byte>, kLevelBytes<T, 12, Byte>, low), half);
  }
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[4], uint32_t (&a)[4]) {
    const uint32_t low = words[Step] & 0x77777777;
    const uint32_t half = and_or<0x44444444>(words[Step] >> 1, 0x32103210);
    const uint32_t first_0 = look_up<0>(low, half), second_0 = look_up<1>(low, half);  // byte r: value (r, 0)
    const uint32_t first_1 = look_up<0>(low >> 16, half >> 16), second_1 = look_up<1>(low >> 16, half >> 16);  // (r, 1)
    const uint32_t r01_0 = ptx::byte_permute(first_0, second_0, 0x5140), r23_0 = ptx::byte_permute(first_0, second_0, 0x7362);
    const uint32_t r01_1 = ptx::byte_permute(first_1, second_1, 0x5140), r23_1 = ptx::byte_permute(first_1, second_1, 0x7362);
    a[0] = ptx::byte_permute(r01_0, r01_1, 0x5410);
    a[1] = ptx::byte_permute(r01_0, r01_1, 0x7632);
    a[2] = ptx::byte_permute(r23_0, r23_1, 0x5410);
    a[3] = ptx::byte_permute(r23_0, r23_1, 0x7632);
  }
};

template <> struct Dequantizer<Codes::kInt8, Arithmetic::kInt8> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[8], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) a[r] = words[4 * Step + r];
  }
};
template <> struct Dequantizer<Codes::kFloat8, Arithmetic::kFloat8> : Dequantizer<Codes::kInt8, Arithmetic::kInt8> {};

template <> struct Dequantizer<Codes::kInt4, Arithmetic::kInt8> {
  template <int Step> static __device__ __forceinline__ void fragment(const uint32_t (&words)[4], uint32_t (&a)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const uint32_t word = words[2 * Step + r / 2];
      a[r] = (r % 2 ? word : word << 4) & 0xf0f0f0f0u;
    }
  }
};

/// Multiplies a fragment by the scales of its rows g and g + 8, each given twice in a pair of 16-bit floats.
template <typename T> __device__ __forceinline__ void scale_fragment(uint32_t (&a)[4], uint32_t scale_g, uint32_t scale_g8) {
  a[0] = ptx::multiply2<T>(a[0], scale_g);
  a[1] = ptx::multiply2<T>(a[1], scale_g8);
  a[2] = ptx::multiply2<T>(a[2], scale_g);
  a[3] = ptx::multiply2<T>(a[3], scale_g8);
}

/// What a group of codes with zero points has for a lane's rows g and g + 8 of a tile (fragment_order.hpp), each given twice in a
/// pair of 16-bit floats.
struct GroupPlace {
  uint32_t step[2], near[2], rest[2];

  /// `channel`: the first number of the group for row g; its rows of numbers lie `row_stride` of them apart.
  __device__ __forceinline__ void read(const uint16_t* channel, int row_stride) {
#pragma unroll
    for (int half = 0; half < 2; ++half, channel += 8) {
      step[half] = channel[0] * 0x10001u, near[half] = channel[row_stride] * 0x10001u, rest[half] = channel[2 * row_stride] * 0x10001u;
    }
  }
};

/// Makes weights, but for the channel scale, of a fragment of codes with zero points.
template <typename T> __device__ __forceinline__ void place_fragment(uint32_t (&a)[4], const GroupPlace& group) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    a[r] = ptx::fma2<T>(ptx::subtract2<T>(a[r], group.near[r % 2]), group.step[r % 2], group.rest[r % 2]);
  }
}

}  // namespace usmlite::cuda
