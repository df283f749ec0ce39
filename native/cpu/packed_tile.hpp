// The register tiles of packed products for the instruction set this file is compiled for.
#pragma once

#if defined(__AVX512F__)
#include "cpu/packed_tile_avx512.hpp"
#else
#include "cpu/packed_tile_avx2.hpp"
#endif
