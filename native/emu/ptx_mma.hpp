// cuda/ptx_mma.cuh, emulated: warp-wide matrix products.
#pragma once

#include "emu/matrix_product.hpp"

namespace usmlite::cuda::ptx {

template <typename T> inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emu::WarpProduct product{emu::kElement<T>, false, 0, d, a, b, 0};
  emu::warp_product(product);
}
template <typename T, int Selector>
inline void mma_sparse(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t metadata) {
  emu::WarpProduct product{emu::kElement<T>, true, Selector, d, a, b, metadata};
  emu::warp_product(product);
}
inline void mma_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emu::WarpProduct product{emu::Element::kInt8, false, 0, d, a, b, 0};
  emu::warp_product(product);
}
inline void mma_sparse_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t metadata) {
  emu::WarpProduct product{emu::Element::kInt8, true, 0, d, a, b, metadata};
  emu::warp_product(product);
}

}  // namespace usmlite::cuda::ptx
