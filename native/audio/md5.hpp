// MD5 (RFC 1321), for the checksum that FLAC keeps of its samples. Not for anything that must be secure.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace usmlite::audio {

class Md5 {
 public:
  void update(const uint8_t* bytes, size_t count);
  /// May be called once.
  std::array<uint8_t, 16> finish();

 private:
  void compress(const uint8_t* block);

  std::array<uint32_t, 4> state_ = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u};
  std::array<uint8_t, 64> block_ = {};
  uint64_t bytes_ = 0;
};

}  // namespace usmlite::audio
