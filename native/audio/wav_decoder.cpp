#include "audio/wav_decoder.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace usmlite::audio {
namespace {

constexpr size_t kMaximumFormatBytes = 1 << 16;

uint16_t u16(const uint8_t* b) { return static_cast<uint16_t>(b[0] | b[1] << 8); }
uint32_t u32(const uint8_t* b) { return static_cast<uint32_t>(u16(b)) | static_cast<uint32_t>(u16(b + 2)) << 16; }
uint64_t u64(const uint8_t* b) { return u32(b) | static_cast<uint64_t>(u32(b + 4)) << 32; }
bool is(const uint8_t* b, const char* id) { return std::memcmp(b, id, 4) == 0; }

// What programs write that cannot seek back to fill in the size: all ones, SoX's 0x7ffff000 and arecord's halves.
bool is_streaming_size(uint32_t size) {
  return size == 0xFFFFFFFFu || size == 0x7FFFF000u || size == 0x7FFFFFFFu || size == 0x80000000u;
}

// ITU-T G.711, as 16-bit values.
int32_t a_law(uint8_t code) {
  code ^= 0x55;
  const int32_t exponent = code >> 4 & 7, mantissa = (code & 15) << 4;
  const int32_t magnitude = exponent == 0 ? mantissa + 8 : (mantissa + 0x108) << (exponent - 1);
  return code & 0x80 ? magnitude : -magnitude;
}
int32_t mu_law(uint8_t code) {
  code = static_cast<uint8_t>(~code);
  const int32_t magnitude = ((((code & 15) << 3) + 0x84) << (code >> 4 & 7)) - 0x84;
  return code & 0x80 ? -magnitude : magnitude;
}

}  // namespace

void WavDecoder::next(std::vector<float>& output) {
  while (state_ != State::kSamples && state_ != State::kDone) {
    if (read_header()) continue;
    if (!ended_) return;
    fail_truncated("WAV file", 0);
  }
  if (state_ == State::kDone) return;

  const int64_t frame_bytes = sample_bytes_ * channels_;
  int64_t bytes = static_cast<int64_t>(available());
  if (remaining_ >= 0) bytes = std::min(bytes, remaining_);
  const int64_t frames = std::min<int64_t>(bytes / frame_bytes, kBlockSamples);
  if (frames > 0) {
    convert(data(), frames, output);
    take(static_cast<size_t>(frames * frame_bytes));
    if (remaining_ >= 0) remaining_ -= frames * frame_bytes;
    found_ += frames;
    return;
  }
  if (remaining_ >= 0 && remaining_ < frame_bytes) {
    state_ = State::kDone;
  } else if (ended_) {
    if (remaining_ >= 0 && !allow_truncated_) fail_truncated("WAV file", found_);
    state_ = State::kDone;
  }
}

bool WavDecoder::read_header() {
  if (state_ == State::kRiff) {
    if (available() < 12) return false;
    const uint8_t* b = data();
    if (!(is(b, "RIFF") || is(b, "RF64") || is(b, "BW64")) || !is(b + 8, "WAVE")) {
      fail("is no WAV file; it must begin with RIFF....WAVE");
    }
    riff_size_ = u32(b + 4);
    take(12);
    state_ = State::kChunk;
    return true;
  }
  if (state_ == State::kSkip) {
    const size_t bytes = static_cast<size_t>(std::min<uint64_t>(skip_, available()));
    take(bytes);
    skip_ -= bytes;
    if (skip_ == 0) state_ = State::kChunk;
    return skip_ == 0;
  }
  // A chunk of odd size is followed by a zero byte, which some writers forget; no chunk's name begins with zero.
  if (maybe_padded_) {
    if (available() < 1) return false;
    if (data()[0] == 0) take(1);
    maybe_padded_ = false;
  }
  if (available() < 8) return false;
  const uint32_t size = u32(data() + 4);
  const bool is_body_needed = is(data(), "fmt ") || is(data(), "ds64");
  if (is_body_needed && size > kMaximumFormatBytes) fail("its WAV format chunk has " + std::to_string(size) + " bytes; 16 to 40 are usual");
  if (is_body_needed && available() < 8 + size_t{size}) return false;
  uint8_t id[4];
  std::memcpy(id, data(), 4);
  take(8);
  read_chunk(id, size);
  return true;
}

// The body of "fmt " and "ds64" is there; other chunks are passed over.
void WavDecoder::read_chunk(const uint8_t* id, uint32_t size) {
  if (is(id, "data")) return begin_samples(size);
  maybe_padded_ = size % 2 == 1;
  if (is(id, "fmt ")) {
    read_format(data(), size);
    take(size);
  } else if (is(id, "ds64")) {
    if (size < 16) fail("its ds64 chunk has " + std::to_string(size) + " bytes; at least 16 are needed");
    const uint64_t data_size = u64(data() + 8);
    if (data_size <= uint64_t{1} << 62) long_data_size_ = static_cast<int64_t>(data_size);
    take(size);
  } else {
    skip_ = size;
    state_ = State::kSkip;
  }
}

void WavDecoder::read_format(const uint8_t* body, size_t size) {
  if (size < 16) fail("its WAV format chunk has " + std::to_string(size) + " bytes; at least 16 are needed");
  uint32_t tag = u16(body);
  channels_ = u16(body + 2);
  info_.sample_rate = u32(body + 4);
  const int64_t frame_bytes = u16(body + 12);
  const int64_t bits = u16(body + 14);
  // WAVE_FORMAT_EXTENSIBLE: the tag is the beginning of a GUID, the rest of which is always this (or, for ambisonics, that).
  if (tag == 0xFFFE) {
    if (size < 40) fail("its extensible WAV format chunk has " + std::to_string(size) + " bytes; 40 are needed");
    static constexpr uint8_t kStandard[12] = {0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71};
    static constexpr uint8_t kAmbisonic[12] = {0, 0, 0x21, 0x07, 0xD3, 0x11, 0x86, 0x44, 0xC8, 0xC1, 0xCA, 0};
    const bool known = std::memcmp(body + 28, kStandard, 12) == 0 || std::memcmp(body + 28, kAmbisonic, 12) == 0;
    tag = known ? u32(body + 24) : 0xFFFE;
  }
  if (channels_ == 0) fail("its WAV header says that there are no channels; at least 1 is needed");
  if (info_.sample_rate == 0) fail("its WAV header says that the sampling rate is 0 Hz");

  if (tag != 1 && tag != 3 && tag != 6 && tag != 7) {
    info_.unsupported = "WAV with coding " + std::to_string(tag);
    format_read_ = true;
    sample_bytes_ = 1;
    return;
  }
  if (frame_bytes == 0 || frame_bytes % channels_ != 0) {
    fail("its WAV header is inconsistent: " + std::to_string(frame_bytes) + " bytes for " + std::to_string(channels_) + " channels");
  }
  sample_bytes_ = frame_bytes / channels_;
  const bool whole_bytes = bits == 8 * sample_bytes_;
  if (tag == 1 && sample_bytes_ <= 4 && bits >= 1 && bits <= 8 * sample_bytes_) {
    // Fewer bits than the bytes hold are the upper ones, so they need no care.
    coding_ = sample_bytes_ == 1 ? Coding::kUnsigned8 : Coding::kInteger;
  } else if (tag == 3 && whole_bytes && bits == 32) {
    coding_ = Coding::kFloat32;
  } else if (tag == 3 && whole_bytes && bits == 64) {
    coding_ = Coding::kFloat64;
  } else if ((tag == 6 || tag == 7) && sample_bytes_ == 1) {
    coding_ = tag == 6 ? Coding::kALaw : Coding::kMuLaw;
  } else {
    fail("its WAV header is inconsistent: coding " + std::to_string(tag) + " with " + std::to_string(bits) + " bits in " +
         std::to_string(sample_bytes_) + " bytes per sample");
  }
  format_read_ = true;
}

void WavDecoder::begin_samples(uint32_t size) {
  if (!format_read_) fail("its WAV data comes before the format chunk");
  const bool unfinished = size == 0 && (riff_size_ == 0 || is_streaming_size(riff_size_));
  if (long_data_size_ >= 0 && size == 0xFFFFFFFFu) remaining_ = long_data_size_;
  else if (is_streaming_size(size) || unfinished) remaining_ = -1;
  else remaining_ = size;

  const int64_t frame_bytes = sample_bytes_ * channels_;
  const int64_t in_file = file_bytes_ < 0 ? -1 : std::max<int64_t>(file_bytes_ - position(), 0);
  if (remaining_ >= 0) {
    info_.declared_samples = remaining_ / frame_bytes;
    if (in_file >= 0 && remaining_ > in_file && info_.unsupported.empty()) {
      if (!allow_truncated_) fail_truncated("WAV file", in_file / frame_bytes);
      info_.declared_samples = in_file / frame_bytes;
    }
  } else if (in_file >= 0) {
    info_.declared_samples = in_file / frame_bytes;
  }
  header_read_ = true;
  state_ = info_.unsupported.empty() ? State::kSamples : State::kDone;
}

void WavDecoder::convert(const uint8_t* bytes, int64_t frames, std::vector<float>& output) {
  const size_t begin = output.size();
  output.resize(begin + static_cast<size_t>(frames));
  const auto each_frame = [&](double scale, auto&& sample) {
    for (int64_t f = 0; f < frames; ++f) {
      double sum = 0;
      for (int64_t c = 0; c < channels_; ++c) sum += sample(bytes + (f * channels_ + c) * sample_bytes_);
      output[begin + static_cast<size_t>(f)] = static_cast<float>(sum * scale / static_cast<double>(channels_));
    }
  };
  switch (coding_) {
    case Coding::kUnsigned8: each_frame(1.0 / 128, [](const uint8_t* b) { return *b - 128; }); break;
    case Coding::kALaw: each_frame(1.0 / 32768, [](const uint8_t* b) { return a_law(*b); }); break;
    case Coding::kMuLaw: each_frame(1.0 / 32768, [](const uint8_t* b) { return mu_law(*b); }); break;
    case Coding::kFloat32: each_frame(1, [](const uint8_t* b) { return std::bit_cast<float>(u32(b)); }); break;
    case Coding::kFloat64: each_frame(1, [](const uint8_t* b) { return std::bit_cast<double>(u64(b)); }); break;
    case Coding::kInteger:
      if (sample_bytes_ == 2) each_frame(1.0 / 32768, [](const uint8_t* b) { return static_cast<int16_t>(u16(b)); });
      if (sample_bytes_ == 3) {
        each_frame(1.0 / 2147483648.0, [](const uint8_t* b) { return static_cast<int32_t>(uint32_t{u16(b)} << 8 | uint32_t{b[2]} << 24); });
      }
      if (sample_bytes_ == 4) each_frame(1.0 / 2147483648.0, [](const uint8_t* b) { return static_cast<int32_t>(u32(b)); });
      break;
  }
}

}  // namespace usmlite::audio
