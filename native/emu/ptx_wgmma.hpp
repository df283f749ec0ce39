// cuda/ptx_wgmma.cuh, emulated: asynchronous products of a warpgroup.
#pragma once

#include <type_traits>

#include "emu/ptx_memory.hpp"
#include "emu/warpgroup_product.hpp"

namespace usmlite::cuda::ptx {

void wgmma_fence();
void wgmma_commit();
void wait_for_products(int pending);
template <int Pending> inline void wgmma_wait() { wait_for_products(Pending); }
inline void wgmma_touch(float&) {}
inline void wgmma_touch(int32_t&) {}
inline void wgmma_touch(uint32_t&) {}

template <int Count> inline void registers_release() { static_assert(Count % 8 == 0 && Count >= 24 && Count <= 256); }
template <int Count> inline void registers_acquire() { static_assert(Count % 8 == 0 && Count >= 24 && Count <= 256); }

inline uint64_t swizzled_descriptor(const void* tile) {
  return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 16 | (shared_address(tile) & 0x3ffff) >> 4;
}

inline uint64_t transposed_descriptor(const void* tile, int block_bytes) {
  return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | static_cast<uint64_t>(block_bytes >> 4) << 16 | (shared_address(tile) & 0x3ffff) >> 4;
}

void issue_product(const emu::ProductShape& shape, void* d, const uint32_t* a, uint32_t metadata);

template <typename T, int N> struct Wgmma {
  static_assert(N == 16 || N == 32 || N == 64 || N == 128 || N == 256);
  using D = std::conditional_t<std::is_same_v<T, Int8>, int32_t, float>;
  static constexpr emu::Element kElement = emu::kElement<T>;

  static void dense(D (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
    issue_product({kElement, N, false, 0, false, 0, b, false, false, accumulate}, d, a, 0);
  }
  template <bool TransposedA = false, bool TransposedB = false> static void dense(D (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
    static_assert(emu::element_bytes(kElement) == 2 || !(TransposedA || TransposedB), "8-bit operands are K-major");
    issue_product({kElement, N, false, 0, true, a, b, TransposedA, TransposedB, accumulate}, d, nullptr, 0);
  }
  template <int Selector>
  static void sparse(D (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, uint32_t metadata, bool accumulate) {
    issue_product({kElement, N, true, Selector, false, 0, b, false, false, accumulate}, d, a, metadata);
  }
};

}  // namespace usmlite::cuda::ptx
