// FLAC files (RFC 9639).
#pragma once
#include <array>

#include "audio/flac_frame.hpp"
#include "audio/md5.hpp"
#include "audio/stream_decoder.hpp"

namespace usmlite::audio {

class FlacDecoder : public StreamDecoder {
 public:
  using StreamDecoder::StreamDecoder;
  void next(std::vector<float>& output) override;

 private:
  enum class State { kStart, kBlockHeader, kSkip, kFrames, kDone };

  bool read_header();  // false: more bytes are needed
  void read_stream_info(const uint8_t* body);
  void pass_on(std::vector<float>& output);
  void check_digest();

  State state_ = State::kStart;
  State after_skip_ = State::kStart;
  uint64_t skip_ = 0;  // bytes of a tag or of a metadata block of no interest
  FlacStreamInfo stream_;
  std::array<uint8_t, 16> digest_ = {};  // of all samples; zeros when the encoder computed none
  Md5 md5_;
  FlacFrame frame_;
  std::vector<uint8_t> interleaved_;  // scratch for the digest
  int64_t found_ = 0;                 // samples per channel
};

}  // namespace usmlite::audio
