#include "codec/code_stream.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "codec/bit_stream.hpp"
#include "core/divide_up.hpp"
#include "core/error.hpp"

namespace usmlite::codec {
namespace {

constexpr int64_t kWordBits = 32;
constexpr int64_t kTritsPerByte = 5;
constexpr std::array<uint32_t, kTritsPerByte> kTritPlaces = {1, 3, 9, 27, 81};
constexpr uint32_t kTritBytes = 243;

// The five digits of every byte, lowest first.
constexpr auto kTritDigits = [] {
  std::array<std::array<uint8_t, kTritsPerByte>, kTritBytes> digits{};
  for (uint32_t byte = 0; byte < kTritBytes; ++byte) {
    for (size_t i = 0; i < kTritsPerByte; ++i) digits[byte][i] = static_cast<uint8_t>(byte / kTritPlaces[i] % 3);
  }
  return digits;
}();

}  // namespace

CodeStream::CodeStream(const WeightSpec& spec, int64_t rows, int64_t columns)
    : bits_(spec.bits), ternary_(spec.format == NumberFormat::kTernary), dense_(!spec.is_sparse()),
      codes_per_row_(spec.codes_per_row(columns)), row_bytes_(0) {
  if (dense_) {
    row_bytes_ = ternary_ ? divide_up(codes_per_row_, kTritsPerByte) : divide_up(codes_per_row_ * bits_, kWordBits) * (kWordBits / 8);
    bytes_ = rows * row_bytes_;
  } else {
    bytes_ = ternary_ ? divide_up(rows * codes_per_row_, kTritsPerByte) : divide_up(rows * codes_per_row_ * bits_, 8);
  }
}

void CodeStream::write(uint8_t* stream, int64_t row, int64_t index, uint32_t raw) const {
  stream += row * row_bytes_;
  const int64_t code = first_code(row) + index;
  if (ternary_) {
    uint8_t& byte = stream[code / kTritsPerByte];
    byte = static_cast<uint8_t>(byte + raw * kTritPlaces[code % kTritsPerByte]);
  } else {
    write_bits(stream, code * bits_, bits_, raw);
  }
}

template <int kBits, typename Raw>
void CodeStream::read_bits_of_row(const uint8_t* stream, int64_t position, Raw* raw) const {
  // As many codes at a time as eight bytes hold, whatever bit the first begins at.
  constexpr int64_t kCodes = 57 / kBits;
  constexpr uint64_t kMask = (uint64_t{1} << kBits) - 1;
  int64_t i = 0;
  if constexpr (8 % kBits == 0) {  // whole bytes, a loop that compilers turn into vector instructions
    constexpr int64_t kPerByte = 8 / kBits;
    const uint8_t* bytes = stream + position / 8;
    const int64_t whole = position % 8 == 0 ? codes_per_row_ / kPerByte : 0;
    for (int64_t byte = 0; byte < whole; ++byte) {
      for (int64_t code = 0; code < kPerByte; ++code) raw[byte * kPerByte + code] = static_cast<Raw>(bytes[byte] >> (code * kBits) & kMask);
    }
    i = whole * kPerByte;
    position += whole * 8;
  }
  for (; i + kCodes <= codes_per_row_ && position / 8 + 8 <= bytes_; i += kCodes, position += kCodes * kBits) {
    uint64_t window;
    std::memcpy(&window, stream + position / 8, 8);
    window >>= position % 8;
    for (int64_t code = 0; code < kCodes; ++code) raw[i + code] = static_cast<Raw>(window >> (code * kBits) & kMask);
  }
  for (; i < codes_per_row_; ++i, position += kBits) raw[i] = static_cast<Raw>(read_bits(stream, bytes_, position, kBits));
}

template <typename Raw>
void CodeStream::read_trits(const uint8_t* stream, int64_t row, Raw* raw) const {
  stream += row * row_bytes_;
  int64_t place = first_code(row) % kTritsPerByte;
  const uint8_t* next = stream + first_code(row) / kTritsPerByte;
  for (int64_t i = 0; i < codes_per_row_; ++next, place = 0) {
    if (*next >= kTritBytes) {
      throw Error(error_code::kBadCheckpoint, "weight_packed, row " + std::to_string(row) + ": byte " + std::to_string(*next) +
                                                  " is no five ternary codes, which are at most 242");
    }
    const int64_t count = std::min(kTritsPerByte - place, codes_per_row_ - i);
    for (int64_t code = 0; code < count; ++code) raw[i + code] = kTritDigits[*next][place + code];
    i += count;
  }
}

template <typename Raw>
void CodeStream::read(const uint8_t* stream, int64_t row, Raw* raw) const {
  if (ternary_) return read_trits(stream, row, raw);
  const int64_t position = row * row_bytes_ * 8 + first_code(row) * bits_;
  switch (bits_) {
    case 1: return read_bits_of_row<1>(stream, position, raw);
    case 2: return read_bits_of_row<2>(stream, position, raw);
    case 3: return read_bits_of_row<3>(stream, position, raw);
    case 4: return read_bits_of_row<4>(stream, position, raw);
    case 5: return read_bits_of_row<5>(stream, position, raw);
    case 6: return read_bits_of_row<6>(stream, position, raw);
    case 8: return read_bits_of_row<8>(stream, position, raw);
    default: if constexpr (sizeof(Raw) == 4) read_bits_of_row<32>(stream, position, raw);
  }
}

void CodeStream::read_row(const uint8_t* stream, int64_t row, uint32_t* raw) const { read(stream, row, raw); }
void CodeStream::read_row(const uint8_t* stream, int64_t row, uint8_t* raw) const { read(stream, row, raw); }

}  // namespace usmlite::codec
