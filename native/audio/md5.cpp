#include "audio/md5.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace usmlite::audio {
namespace {

constexpr int kRotation[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

// floor(2^32 |sin(i + 1)|)
const std::array<uint32_t, 64>& sine_table() {
  static const auto table = [] {
    std::array<uint32_t, 64> values;
    for (int i = 0; i < 64; ++i) values[i] = static_cast<uint32_t>(std::floor(4294967296.0 * std::abs(std::sin(i + 1.0))));
    return values;
  }();
  return table;
}

}  // namespace

void Md5::compress(const uint8_t* block) {
  const auto& sines = sine_table();
  uint32_t words[16];
  std::memcpy(words, block, 64);
  uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3];
  const auto step = [&](int i, uint32_t f, int word) {
    const uint32_t sum = a + f + sines[i] + words[word];
    a = d, d = c, c = b;
    b += std::rotl(sum, kRotation[i / 16][i % 4]);
  };
  for (int i = 0; i < 16; ++i) step(i, (b & c) | (~b & d), i);
  for (int i = 16; i < 32; ++i) step(i, (d & b) | (~d & c), (5 * i + 1) % 16);
  for (int i = 32; i < 48; ++i) step(i, b ^ c ^ d, (3 * i + 5) % 16);
  for (int i = 48; i < 64; ++i) step(i, c ^ (b | ~d), 7 * i % 16);
  state_ = {state_[0] + a, state_[1] + b, state_[2] + c, state_[3] + d};
}

void Md5::update(const uint8_t* bytes, size_t count) {
  size_t held = bytes_ % 64;
  bytes_ += count;
  if (held > 0) {
    const size_t added = std::min(count, 64 - held);
    std::memcpy(block_.data() + held, bytes, added);
    bytes += added, count -= added;
    if (held + added < 64) return;
    compress(block_.data());
  }
  for (; count >= 64; bytes += 64, count -= 64) compress(bytes);
  std::memcpy(block_.data(), bytes, count);
}

std::array<uint8_t, 16> Md5::finish() {
  const uint64_t bits = bytes_ * 8;
  static constexpr uint8_t kPadding[64] = {0x80};
  update(kPadding, 1 + (119 - bytes_ % 64) % 64);
  uint8_t length[8];
  std::memcpy(length, &bits, 8);
  update(length, 8);
  std::array<uint8_t, 16> digest;
  std::memcpy(digest.data(), state_.data(), 16);
  return digest;
}

}  // namespace usmlite::audio
