// Little-endian bit streams: bit 0 of a stream is the lowest bit of its first byte; values straddle bytes.
#pragma once
#include <cstdint>
#include <cstring>

namespace usmlite::codec {

/// `width` (1..32) bits from bit `position` of a stream of `bytes` bytes; the caller keeps them inside.
inline uint32_t read_bits(const uint8_t* stream, int64_t bytes, int64_t position, int width) {
  const int64_t first = position / 8;
  uint64_t window = 0;  // 32 bits at any offset in a byte span at most five bytes
  std::memcpy(&window, stream + first, static_cast<size_t>(bytes - first < 8 ? bytes - first : 8));
  return static_cast<uint32_t>((window >> (position % 8)) & ((uint64_t{1} << width) - 1));
}

/// Sets `width` (1..32) bits at bit `position` of a stream that is still zero there.
inline void write_bits(uint8_t* stream, int64_t position, int width, uint32_t value) {
  uint64_t window = static_cast<uint64_t>(value) << (position % 8);
  const int touched = static_cast<int>(position % 8) + width;
  for (int64_t byte = position / 8; window != 0 && byte <= (position + touched) / 8; ++byte, window >>= 8) {
    stream[byte] |= static_cast<uint8_t>(window);
  }
}

}  // namespace usmlite::codec
