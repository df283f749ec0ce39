#include "audio/resampler.hpp"

#include <algorithm>

#include "cpu/resample.hpp"

namespace usmlite::audio {

Resampler::Resampler(int64_t from_rate, int64_t to_rate)
    : plan_(resample_plan(from_rate, to_rate)),
      buffer_(plan_->half_width - 1, 0.0f),  // silence before the first sample
      buffer_begin_(1 - plan_->half_width) {}

int64_t Resampler::ready(int64_t count, bool last) const {
  const int64_t total = received_ + count;
  if (last) return plan_->output_length(total) - produced_;
  // Output j needs input up to input_index(j) + half_width: the largest j with j * down / up < total - half_width.
  const int64_t reach = total - plan_->half_width;
  if (reach <= 0) return 0;
  const auto end = (static_cast<__int128>(reach) * plan_->up + plan_->down - 1) / plan_->down;
  return std::max<int64_t>(0, static_cast<int64_t>(end) - produced_);
}

void Resampler::push(const float* input, int64_t count, float* output) {
  const int64_t outputs = ready(count, false);
  buffer_.insert(buffer_.end(), input, input + count);
  received_ += count;
  produce(outputs, output);
}

void Resampler::finish(float* output) {
  const int64_t outputs = ready(0, true);
  buffer_.resize(buffer_.size() + plan_->half_width, 0.0f);  // silence behind the last sample
  produce(outputs, output);
}

void Resampler::produce(int64_t count, float* output) {
  if (count > 0) cpu::resample(*plan_, buffer_.data(), buffer_begin_, produced_, count, output);
  produced_ += count;
  // The next output needs nothing before this sample.
  const int64_t needed = plan_->input_index(produced_) - plan_->half_width + 1;
  const int64_t unused = std::clamp<int64_t>(needed - buffer_begin_, 0, static_cast<int64_t>(buffer_.size()));
  buffer_.erase(buffer_.begin(), buffer_.begin() + unused);
  buffer_begin_ += unused;
}

}  // namespace usmlite::audio
