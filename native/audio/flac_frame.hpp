// One frame of FLAC (RFC 9639, section 9): up to 65536 samples of up to 8 channels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace usmlite::audio {

struct FlacStreamInfo {
  int64_t sample_rate = 0;    // Hz
  int channels = 0;           // 1..8
  int bits = 0;               // per sample, 4..32
  int64_t total_samples = 0;  // per channel; 0 when unknown
};

struct FlacFrame {
  int64_t samples = 0;                         // per channel
  std::vector<int64_t> channels[8];            // (samples) each
  size_t bytes = 0;                            // of the frame, checksums included
};

/// Decodes the frame at `bytes` and checks both of its checksums. Returns false when the bytes end too early; throws
/// BAD_AUDIO when this is no valid frame of a stream like `info`.
bool decode_flac_frame(const FlacStreamInfo& info, const uint8_t* bytes, size_t count, FlacFrame& frame);

}  // namespace usmlite::audio
