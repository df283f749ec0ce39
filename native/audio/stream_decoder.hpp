// Decoders of untrusted audio files that arrive in pieces of any size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace usmlite::audio {

struct StreamInfo {
  int64_t sample_rate = 0;        // Hz
  int64_t declared_samples = -1;  // per channel; -1 when the file does not say
  std::string unsupported;        // not empty: a valid file, in a coding that is not decoded here
};

/// Every error is BAD_AUDIO with a sentence that lacks only the file's name.
class StreamDecoder {
 public:
  /// `file_bytes` is the size of the whole file, -1 when unknown. A truncated file is an error, or, when allowed, ends
  /// where its bytes do.
  StreamDecoder(int64_t file_bytes, bool allow_truncated) : file_bytes_(file_bytes), allow_truncated_(allow_truncated) {}
  virtual ~StreamDecoder() = default;

  void push(const uint8_t* bytes, size_t count) { queue_.insert(queue_.end(), bytes, bytes + count); }
  /// No more bytes will come.
  void end() { ended_ = true; }
  /// Appends mono samples (the mean of the channels, full scale 1), some 2^18 at most; none when more bytes are needed,
  /// or after end() when there are no more.
  virtual void next(std::vector<float>& output) = 0;
  /// Null until the header has been read by next().
  const StreamInfo* info() const { return header_read_ ? &info_ : nullptr; }

 protected:
  static constexpr size_t kBlockSamples = size_t{1} << 18;

  const uint8_t* data() const { return queue_.data() + taken_; }
  size_t available() const { return queue_.size() - taken_; }
  /// Bytes taken since the start of the file.
  int64_t position() const { return position_; }
  void take(size_t count) {
    taken_ += count;
    position_ += static_cast<int64_t>(count);
    if (taken_ == queue_.size() || taken_ > (size_t{1} << 20)) {
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(taken_));
      taken_ = 0;
    }
  }

  [[noreturn]] static void fail(const std::string& sentence) { throw Error(error_code::kBadAudio, sentence); }
  /// The file ends after `found` samples per channel.
  [[noreturn]] void fail_truncated(const char* what, int64_t found) const;

  StreamInfo info_;
  bool header_read_ = false;
  bool ended_ = false;
  const int64_t file_bytes_;
  const bool allow_truncated_;

 private:
  std::vector<uint8_t> queue_;
  size_t taken_ = 0;
  int64_t position_ = 0;
};

/// `format` is "wav" or "flac".
std::unique_ptr<StreamDecoder> make_stream_decoder(const std::string& format, int64_t file_bytes, bool allow_truncated);

}  // namespace usmlite::audio
