#include "audio/stream_decoder.hpp"

#include <cstdio>

#include "audio/flac_decoder.hpp"
#include "audio/wav_decoder.hpp"

namespace usmlite::audio {

void StreamDecoder::fail_truncated(const char* what, int64_t found) const {
  std::string sentence = std::string("the ") + what + " ends too early: " + std::to_string(found) + " samples";
  if (info_.sample_rate > 0) {
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, " (%.2f s)", static_cast<double>(found) / static_cast<double>(info_.sample_rate));
    sentence += seconds;
  }
  if (info_.declared_samples > found) sentence += " of " + std::to_string(info_.declared_samples);
  fail(sentence + " were found; use the complete file (decodeAudio has allowTruncated to take what is there)");
}

std::unique_ptr<StreamDecoder> make_stream_decoder(const std::string& format, int64_t file_bytes, bool allow_truncated) {
  if (format == "wav") return std::make_unique<WavDecoder>(file_bytes, allow_truncated);
  if (format == "flac") return std::make_unique<FlacDecoder>(file_bytes, allow_truncated);
  throw Error(error_code::kInvalidArgument, "format \"" + format + "\" is unknown; choose wav or flac");
}

}  // namespace usmlite::audio
