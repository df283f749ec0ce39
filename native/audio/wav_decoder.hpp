// WAV: RIFF and RF64/BW64 files of linear, floating-point, A-law and mu-law samples.
#pragma once
#include "audio/stream_decoder.hpp"

namespace usmlite::audio {

class WavDecoder : public StreamDecoder {
 public:
  using StreamDecoder::StreamDecoder;
  void next(std::vector<float>& output) override;

 private:
  enum class State { kRiff, kChunk, kSkip, kSamples, kDone };
  enum class Coding { kUnsigned8, kInteger, kFloat32, kFloat64, kALaw, kMuLaw };

  bool read_header();  // false: more bytes are needed
  void read_chunk(const uint8_t* id, uint32_t size);
  void read_format(const uint8_t* body, size_t size);
  void begin_samples(uint32_t size);
  void convert(const uint8_t* bytes, int64_t frames, std::vector<float>& output);

  State state_ = State::kRiff;
  uint32_t riff_size_ = 0;
  int64_t long_data_size_ = -1;  // from the ds64 chunk of RF64
  uint64_t skip_ = 0;            // bytes of a chunk of no interest
  bool maybe_padded_ = false;    // an odd chunk has just ended
  bool format_read_ = false;
  Coding coding_ = Coding::kInteger;
  int64_t channels_ = 0;
  int64_t sample_bytes_ = 0;
  int64_t remaining_ = 0;  // bytes of samples to come; -1 until the file ends
  int64_t found_ = 0;      // samples per channel
};

}  // namespace usmlite::audio
