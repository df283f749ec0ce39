#include "audio/flac_frame.hpp"

#include <array>
#include <string>

#include "audio/bit_reader.hpp"
#include "core/error.hpp"

namespace usmlite::audio {
namespace {

[[noreturn]] void fail(const std::string& sentence) { throw Error(error_code::kBadAudio, "a FLAC frame " + sentence); }

// CRCs of FLAC are neither reflected nor inverted.
template <typename Word, Word kPolynomial>
Word checksum(const uint8_t* bytes, size_t count) {
  constexpr int kShift = 8 * sizeof(Word) - 8;
  static const auto table = [] {
    std::array<Word, 256> remainders;
    for (int byte = 0; byte < 256; ++byte) {
      Word remainder = static_cast<Word>(byte << kShift);
      for (int bit = 0; bit < 8; ++bit) {
        const bool carry = remainder >> (kShift + 7) & 1;
        remainder = static_cast<Word>(remainder << 1 ^ (carry ? kPolynomial : 0));
      }
      remainders[byte] = remainder;
    }
    return remainders;
  }();
  Word sum = 0;
  for (size_t i = 0; i < count; ++i) sum = static_cast<Word>((kShift ? sum << 8 : 0) ^ table[(sum >> kShift ^ bytes[i]) & 0xFF]);
  return sum;
}

// A number of up to 36 bits in the manner of UTF-8. Its value does not matter here: frames are decoded in order.
void skip_coded_number(BitReader& bits) {
  const uint64_t first = bits.read(8);
  if (first < 0x80) return;
  if (first < 0xC0 || first == 0xFF) fail("has a malformed number");
  for (int mask = 0x40; first & mask; mask >>= 1) {
    if (bits.read(2) != 2) fail("has a malformed number");
    bits.read(6);
  }
}

struct FrameHeader {
  int64_t samples;
  int assignment;  // 0..7: that many channels more than one; 8 left/side, 9 side/right, 10 mid/side
};

FrameHeader read_header(const FlacStreamInfo& info, const uint8_t* bytes, BitReader& bits) {
  if (bits.read(15) != 0x7FFC) fail("does not begin with its mark");
  bits.read(1);  // fixed or variable block size: what the coded number counts
  const int size_code = static_cast<int>(bits.read(4));
  const int rate_code = static_cast<int>(bits.read(4));
  const int assignment = static_cast<int>(bits.read(4));
  const int depth_code = static_cast<int>(bits.read(3));
  if (bits.read(1) != 0 || size_code == 0 || rate_code == 15 || assignment > 10 || depth_code == 3) {
    fail("uses a reserved value");
  }
  skip_coded_number(bits);

  int64_t samples = 0;
  if (size_code == 1) samples = 192;
  else if (size_code <= 5) samples = 144 << size_code;
  else if (size_code <= 7) samples = static_cast<int64_t>(bits.read(size_code == 6 ? 8 : 16)) + 1;
  else samples = 1 << size_code;

  static constexpr int64_t kRates[12] = {0,     88200, 176400, 192000, 8000,  16000,
                                         22050, 24000, 32000,  44100,  48000, 96000};
  int64_t rate = rate_code < 12 ? kRates[rate_code] : 0;
  if (rate_code == 12) rate = static_cast<int64_t>(bits.read(8)) * 1000;
  if (rate_code == 13) rate = static_cast<int64_t>(bits.read(16));
  if (rate_code == 14) rate = static_cast<int64_t>(bits.read(16)) * 10;

  const size_t header_bytes = bits.bytes();
  if (bits.read(8) != checksum<uint8_t, 0x07>(bytes, header_bytes)) fail("has a damaged header (wrong checksum)");
  static constexpr int kDepths[8] = {0, 8, 12, 0, 16, 20, 24, 32};
  if ((rate != 0 && rate != info.sample_rate) || (kDepths[depth_code] != 0 && kDepths[depth_code] != info.bits) ||
      (assignment < 8 ? assignment + 1 : 2) != info.channels) {
    fail("differs from the stream's header in sampling rate, channels or bits per sample");
  }
  return {samples, assignment};
}

// Adds the residual, coded in partitions with a Rice parameter each, behind the first `order` samples.
void read_residual(BitReader& bits, int64_t samples, int64_t order, int64_t* output) {
  const uint64_t method = bits.read(2);
  if (method > 1) fail("uses a reserved residual coding");
  const int parameter_bits = method == 0 ? 4 : 5;
  const int partition_order = static_cast<int>(bits.read(4));
  const int64_t partition = samples >> partition_order;
  if (partition << partition_order != samples || partition < order) fail("has partitions that do not fit its length");
  for (int64_t begin = 0, i = order; begin < samples; begin += partition) {
    const int parameter = static_cast<int>(bits.read(parameter_bits));
    if (parameter == (1 << parameter_bits) - 1) {
      const int width = static_cast<int>(bits.read(5));
      for (; i < begin + partition; ++i) output[i] = width == 0 ? 0 : bits.read_signed(width);
      continue;
    }
    for (; i < begin + partition; ++i) {
      const uint64_t quotient = bits.read_zeros();
      if (quotient >> (32 - parameter)) fail("has a residual that does not fit in 32 bits");
      const uint64_t folded = quotient << parameter | bits.read(parameter);
      output[i] = static_cast<int64_t>(folded >> 1) ^ -static_cast<int64_t>(folded & 1);
    }
  }
}

// output[i] += sum of coefficients[j] * output[i - 1 - j] >> shift, each result checked to fit in `depth` bits, so that
// no sum can overflow: 15 + 33 bits and at most 32 terms.
template <int kOrder>
void predict(int order, int64_t samples, const int64_t* coefficients, int shift, int depth, int64_t* output) {
  const int64_t limit = int64_t{1} << (depth - 1);
  const int count = kOrder > 0 ? kOrder : order;
  for (int64_t i = count; i < samples; ++i) {
    int64_t sum = 0;
    for (int j = 0; j < count; ++j) sum += coefficients[j] * output[i - 1 - j];
    const int64_t value = output[i] + (sum >> shift);
    if (value < -limit || value >= limit) fail("has a sample that does not fit in its bits");
    output[i] = value;
  }
}

void read_subframe(BitReader& bits, int64_t samples, int depth, int64_t* output) {
  if (bits.read(1) != 0) fail("uses a reserved value");
  const int type = static_cast<int>(bits.read(6));
  int wasted = 0;
  if (bits.read(1) != 0) {
    const uint64_t zeros = bits.read_zeros();
    if (zeros + 1 >= static_cast<uint64_t>(depth)) fail("has no bits left in its samples");
    wasted = static_cast<int>(zeros) + 1;
    depth -= wasted;
  }
  if (type == 0) {
    const int64_t value = bits.read_signed(depth);
    for (int64_t i = 0; i < samples; ++i) output[i] = value;
  } else if (type == 1) {
    for (int64_t i = 0; i < samples; ++i) output[i] = bits.read_signed(depth);
  } else if ((type >= 8 && type <= 12) || type >= 32) {
    const bool is_fixed = type < 32;
    const int order = is_fixed ? type - 8 : type - 31;
    if (order > samples) fail("has a predictor longer than itself");
    for (int i = 0; i < order; ++i) output[i] = bits.read_signed(depth);
    static constexpr int64_t kFixed[5][4] = {{}, {1}, {2, -1}, {3, -3, 1}, {4, -6, 4, -1}};
    int64_t coefficients[32] = {};
    int shift = 0;
    if (is_fixed) {
      for (int i = 0; i < order; ++i) coefficients[i] = kFixed[order][i];
    } else {
      const int precision = static_cast<int>(bits.read(4)) + 1;
      shift = static_cast<int>(bits.read_signed(5));
      if (precision == 16 || shift < 0) fail("has a predictor of reserved precision");
      for (int i = 0; i < order; ++i) coefficients[i] = bits.read_signed(precision);
    }
    read_residual(bits, samples, order, output);
    switch (order) {
      case 8: predict<8>(order, samples, coefficients, shift, depth, output); break;
      case 12: predict<12>(order, samples, coefficients, shift, depth, output); break;
      default: predict<0>(order, samples, coefficients, shift, depth, output);
    }
  } else {
    fail("uses a reserved prediction");
  }
  if (wasted > 0) {
    for (int64_t i = 0; i < samples; ++i) output[i] *= int64_t{1} << wasted;
  }
}

}  // namespace

bool decode_flac_frame(const FlacStreamInfo& info, const uint8_t* bytes, size_t count, FlacFrame& frame) {
  try {
    BitReader bits(bytes, count);
    const FrameHeader header = read_header(info, bytes, bits);
    frame.samples = header.samples;
    for (int c = 0; c < info.channels; ++c) {
      frame.channels[c].resize(static_cast<size_t>(header.samples));
      // The difference of two channels needs one more bit.
      const bool is_side = (header.assignment == 8 || header.assignment == 10) ? c == 1 : header.assignment == 9 && c == 0;
      read_subframe(bits, header.samples, info.bits + is_side, frame.channels[c].data());
    }
    if (!bits.align()) fail("is not padded with zeros");
    const size_t body_bytes = bits.bytes();
    if (bits.read(16) != checksum<uint16_t, 0x8005>(bytes, body_bytes)) fail("is damaged (wrong checksum)");
    frame.bytes = body_bytes + 2;

    int64_t* a = frame.channels[0].data();
    int64_t* b = frame.channels[1].data();
    for (int64_t i = 0; header.assignment >= 8 && i < header.samples; ++i) {
      const int64_t side = header.assignment == 9 ? a[i] : b[i];
      if (header.assignment == 8) {
        b[i] = a[i] - side;
      } else if (header.assignment == 9) {
        a[i] = side + b[i];
      } else {
        const int64_t sum = a[i] * 2 + (side & 1);
        a[i] = (sum + side) >> 1;
        b[i] = (sum - side) >> 1;
      }
    }
    return true;
  } catch (const BitReader::OutOfBytes&) {
    return false;
  }
}

}  // namespace usmlite::audio
