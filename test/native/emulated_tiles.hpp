// The tile registers of AMX in plain C++, as Intel's manual describes the instructions, for processors that have none: the kernel
// of native/cpu/packed_tile_amx.hpp is compiled with this header in front (-include). Wrong shapes end the program, and
// loads and stores are calls of memcpy, so that AddressSanitizer sees every byte that they touch.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulated_tiles {

struct Tile {
  int64_t rows = 0, row_bytes = 0;
  uint8_t data[16][64] = {};
};
inline thread_local Tile tiles[8];

inline void demand(bool condition, const char* what) {
  if (condition) return;
  std::printf("emulated tiles: %s\n", what);
  std::abort();
}

inline void configure(const void* from) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  demand(bytes[0] == 1 && bytes[1] == 0, "palette 1 begins at row 0");
  for (int i = 2; i < 16; ++i) demand(bytes[i] == 0, "reserved bytes are zero");
  for (int i = 0; i < 8; ++i) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, 2);
    const uint8_t rows = bytes[48 + i];
    demand(rows <= 16 && row_bytes <= 64 && (rows == 0) == (row_bytes == 0), "a register has up to 16 rows of 64 bytes");
    tiles[i] = Tile{rows, row_bytes, {}};
  }
}
inline void release() {
  for (Tile& tile : tiles) tile = Tile{};
}
inline Tile& used(int index) {
  demand(tiles[index].rows > 0, "a register is used that is not configured");
  return tiles[index];
}
inline void zero(int index) { std::memset(used(index).data, 0, sizeof(Tile::data)); }
inline void load(int index, const void* from, int64_t stride) {
  Tile& tile = used(index);
  std::memset(tile.data, 0, sizeof(tile.data));
  for (int64_t row = 0; row < tile.rows; ++row) std::memcpy(tile.data[row], static_cast<const uint8_t*>(from) + row * stride, static_cast<size_t>(tile.row_bytes));
}
inline void store(int index, void* to, int64_t stride) {
  const Tile& tile = used(index);
  for (int64_t row = 0; row < tile.rows; ++row) std::memcpy(static_cast<uint8_t*>(to) + row * stride, tile.data[row], static_cast<size_t>(tile.row_bytes));
}

/// sums (m, n) of 32 bits += a (m, 4 k) bytes . b (k, n, 4) bytes, A and B the types of bytes.
template <typename A, typename B>
inline void dot(int sums, int left, int right) {
  Tile& c = used(sums);
  const Tile &a = used(left), &b = used(right);
  demand(c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows, "shapes do not fit");
  for (int64_t m = 0; m < a.rows; ++m) {
    for (int64_t n = 0; n < b.row_bytes / 4; ++n) {
      int32_t sum;
      std::memcpy(&sum, c.data[m] + 4 * n, 4);
      for (int64_t k = 0; k < a.row_bytes; ++k) {
        sum += static_cast<int32_t>(static_cast<A>(a.data[m][k])) * static_cast<int32_t>(static_cast<B>(b.data[k / 4][4 * n + k % 4]));
      }
      std::memcpy(c.data[m] + 4 * n, &sum, 4);
    }
  }
}

}  // namespace emulated_tiles

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#define _tile_loadconfig emulated_tiles::configure
#define _tile_release emulated_tiles::release
#define _tile_zero emulated_tiles::zero
#define _tile_loadd emulated_tiles::load
#define _tile_stored emulated_tiles::store
#define _tile_dpbssd emulated_tiles::dot<int8_t, int8_t>
#define _tile_dpbsud emulated_tiles::dot<int8_t, uint8_t>
