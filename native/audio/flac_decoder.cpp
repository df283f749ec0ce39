#include "audio/flac_decoder.hpp"

#include <algorithm>
#include <cstring>

namespace usmlite::audio {
namespace {

// The largest frame, 65536 uncompressed samples of 8 channels, has 2.2 MB; what is longer never ends.
constexpr size_t kMaximumFrameBytes = size_t{1} << 23;

uint32_t big_endian(const uint8_t* b, int bytes) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | b[i];
  return value;
}

}  // namespace

void FlacDecoder::next(std::vector<float>& output) {
  while (state_ != State::kFrames && state_ != State::kDone) {
    if (read_header()) continue;
    if (!ended_) return;
    fail_truncated("FLAC file", 0);
  }
  while (state_ == State::kFrames && output.size() < kBlockSamples) {
    const bool complete = stream_.total_samples > 0 && found_ == stream_.total_samples;
    if (complete || (ended_ && available() == 0 && stream_.total_samples == 0)) {
      // Without a number of samples, only the digest shows that the file was cut between two frames.
      if (complete || !allow_truncated_) check_digest();
      state_ = State::kDone;
    } else if (decode_flac_frame(stream_, data(), available(), frame_)) {
      take(frame_.bytes);
      if (stream_.total_samples > 0 && found_ + frame_.samples > stream_.total_samples) {
        fail("holds more samples than the " + std::to_string(stream_.total_samples) + " its FLAC header says");
      }
      pass_on(output);
    } else if (ended_) {
      if (!allow_truncated_) fail_truncated("FLAC file", found_);
      state_ = State::kDone;
    } else {
      if (available() > kMaximumFrameBytes) fail("the FLAC frame at byte " + std::to_string(position()) + " is longer than 8 MB");
      return;
    }
  }
}

bool FlacDecoder::read_header() {
  if (state_ == State::kSkip) {
    const size_t bytes = static_cast<size_t>(std::min<uint64_t>(skip_, available()));
    take(bytes);
    skip_ -= bytes;
    if (skip_ == 0) state_ = after_skip_;
    return skip_ == 0;
  }
  if (state_ == State::kStart) {
    if (available() < 10) return false;
    const uint8_t* b = data();
    if (std::memcmp(b, "ID3", 3) == 0) {  // a foreign tag before the stream; its size has 7 bits per byte
      skip_ = 10u + (uint32_t{b[6]} & 127) * 2097152u + (b[7] & 127u) * 16384u + (b[8] & 127u) * 128u + (b[9] & 127u);
      if (b[5] & 0x10) skip_ += 10;  // a footer
      after_skip_ = State::kStart;
      state_ = State::kSkip;
      return true;
    }
    if (std::memcmp(b, "fLaC", 4) != 0) fail("is no FLAC file; it must begin with fLaC");
    take(4);
    state_ = State::kBlockHeader;
    return true;
  }
  if (available() < 4) return false;
  const uint32_t type = data()[0] & 0x7F, size = big_endian(data() + 1, 3);
  const bool is_last = data()[0] & 0x80;
  const bool is_stream_info = info_.sample_rate == 0;
  if (is_stream_info) {
    if (type != 0 || size != 34) fail("its first FLAC block must be STREAMINFO of 34 bytes");
    if (available() < 4 + size) return false;
    read_stream_info(data() + 4);
  } else if (type == 127 || type == 0) {
    fail("has an invalid FLAC metadata block");
  }
  skip_ = 4 + size;
  after_skip_ = is_last ? State::kFrames : State::kBlockHeader;
  state_ = State::kSkip;
  header_read_ = true;
  return true;
}

void FlacDecoder::read_stream_info(const uint8_t* body) {
  stream_.sample_rate = big_endian(body + 10, 3) >> 4;
  stream_.channels = (body[12] >> 1 & 7) + 1;
  stream_.bits = ((body[12] & 1) << 4 | body[13] >> 4) + 1;
  stream_.total_samples = static_cast<int64_t>(body[13] & 15) << 32 | big_endian(body + 14, 4);
  std::copy(body + 18, body + 34, digest_.begin());
  if (stream_.sample_rate == 0) fail("its FLAC header says that the sampling rate is 0 Hz");
  if (stream_.bits < 4) fail("its FLAC header says that samples have " + std::to_string(stream_.bits) + " bits; 4 to 32 are possible");
  info_.sample_rate = stream_.sample_rate;
  if (stream_.total_samples > 0) info_.declared_samples = stream_.total_samples;
}

void FlacDecoder::pass_on(std::vector<float>& output) {
  const int channels = stream_.channels;
  const double scale = 1.0 / (static_cast<double>(int64_t{1} << (stream_.bits - 1)) * channels);
  for (int64_t i = 0; i < frame_.samples; ++i) {
    int64_t sum = 0;
    for (int c = 0; c < channels; ++c) sum += frame_.channels[c][static_cast<size_t>(i)];
    output.push_back(static_cast<float>(static_cast<double>(sum) * scale));
  }
  found_ += frame_.samples;

  // The digest is of interleaved little-endian samples of whole bytes.
  const int bytes = (stream_.bits + 7) / 8;
  interleaved_.clear();
  for (int64_t i = 0; i < frame_.samples; ++i) {
    for (int c = 0; c < channels; ++c) {
      const int64_t value = frame_.channels[c][static_cast<size_t>(i)];
      for (int b = 0; b < bytes; ++b) interleaved_.push_back(static_cast<uint8_t>(value >> 8 * b));
    }
  }
  md5_.update(interleaved_.data(), interleaved_.size());
}

void FlacDecoder::check_digest() {
  const bool is_known = std::any_of(digest_.begin(), digest_.end(), [](uint8_t byte) { return byte != 0; });
  if (is_known && md5_.finish() != digest_) fail("its FLAC samples do not have the MD5 checksum of the header; use an undamaged file");
}

}  // namespace usmlite::audio
