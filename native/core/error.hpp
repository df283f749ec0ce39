// Coded errors: every failure a caller can meet has a stable code and one sentence.
#pragma once
#include <stdexcept>
#include <string>

namespace usmlite {

/// Thrown by native code; the binding layer turns it into a JavaScript UsmLiteError with the same `code`.
/// The message says what is wrong and what would be right.
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // points at one of the literals below
};

namespace error_code {
inline constexpr const char* kInvalidArgument = "INVALID_ARGUMENT";
inline constexpr const char* kOutOfMemory = "OUT_OF_MEMORY";
inline constexpr const char* kBadAudio = "BAD_AUDIO";
inline constexpr const char* kBadCheckpoint = "BAD_CHECKPOINT";
inline constexpr const char* kUnsupportedSpec = "UNSUPPORTED_SPEC";
inline constexpr const char* kTensorReleased = "TENSOR_RELEASED";
inline constexpr const char* kNoGpu = "NO_GPU";
inline constexpr const char* kDriverTooOld = "DRIVER_TOO_OLD";
inline constexpr const char* kGpuFailed = "GPU_FAILED";
}  // namespace error_code

}  // namespace usmlite
