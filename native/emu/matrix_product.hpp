// What a tensor core computes: 16 rows of the left operand, as the lanes of a warp hold them, times a right operand.
//
// Products are exact; those of one step are added in float32 from zero, the sum then to the accumulator. Hardware adds in
// another order and precision, so results agree exactly where all partial sums are floats, and closely elsewhere.
#pragma once
#include <cstdint>

#include "cuda/kernel_language.cuh"

namespace usmlite::emu {

enum class Element : uint8_t { kBFloat16, kFloat16, kFloat8E4M3, kInt8 };

template <typename T> inline constexpr Element kElement = Element::kInt8;
template <> inline constexpr Element kElement<cuda::BFloat16> = Element::kBFloat16;
template <> inline constexpr Element kElement<cuda::Float16> = Element::kFloat16;
template <> inline constexpr Element kElement<cuda::Float8E4M3> = Element::kFloat8E4M3;

constexpr int element_bytes(Element element) { return element <= Element::kFloat16 ? 2 : 1; }
/// Inputs of one step when dense; twice as many when sparse.
inline int step_inputs(Element element) { return 32 / element_bytes(element); }

/// 32 bytes of elements as floats.
void decode(Element element, const void* bytes, float* values);

/// 16 rows of the left operand: what is stored, and the input that each stored value is for.
struct LeftRows {
  int stored;
  float values[16][32];
  uint8_t inputs[16][32];
};
/// `registers[lane]` are the four words that a lane holds; `metadata` (null when dense) a word per lane.
void gather_left(Element element, const uint32_t* const* registers, const uint32_t* metadata, int selector, LeftRows& left);

/// sums (16, columns) = left . right, of whose rows (inputs, stride) the first `columns` are multiplied.
void multiply(const LeftRows& left, const float* right, int stride, int columns, float* sums);

/// One step of mma.sync or mma.sp by a warp.
struct WarpProduct {
  Element element;
  bool sparse;
  int selector;
  void* d;  // float[4] or int32_t[4]
  const uint32_t* a;
  const uint32_t* b;
  uint32_t metadata;
};
void warp_product(WarpProduct& product);

}  // namespace usmlite::emu
