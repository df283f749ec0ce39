#include "cuda/log_mel.hpp"

#include <string>
#include <vector>

#include "core/error.hpp"
#include "cuda/log_mel_kernels.hpp"
#include "cuda/pinned_memory.hpp"

namespace usmlite::cuda {

LogMelTables::LogMelTables(const audio::LogMelPlan& plan) : settings_(plan.settings), weights_(static_cast<int64_t>(plan.weights.size())) {
  if (log_mel_shared_bytes(settings_.fft_length) > static_cast<size_t>(gpu_properties().shared_bytes_per_block)) {
    throw Error(error_code::kUnsupportedSpec, "a Fourier transform of " + std::to_string(settings_.fft_length) +
                                                  " samples does not fit into the shared memory of this GPU");
  }
  std::vector<uint8_t> bytes;
  const auto append = [&bytes](const auto& values) {
    const auto* begin = reinterpret_cast<const uint8_t*>(values.data());
    bytes.insert(bytes.end(), begin, begin + values.size() * sizeof(values[0]));
  };
  append(plan.window);
  append(plan.cosine);
  append(plan.sine);
  append(plan.weights);
  append(plan.first);
  append(plan.begin);
  const auto& stream = default_stream();
  memory_ = std::make_shared<DeviceMemory>(bytes.size(), stream);
  copy_from_host(memory_->use_on(stream), bytes.size(), bytes.data(), bytes.size(), 1, stream);
}

void LogMelTables::features(const DeviceMatrix& samples, const int32_t* sample_offsets, DeviceSequences& frames, const Framing& framing,
                            const DeviceMatrix& features, const Stream& stream) {
  const PackedSequences sequences = frames.use_on(stream);
  if (sequences.longest == 0) return;
  const size_t offset_bytes = (static_cast<size_t>(sequences.count) + 1) * sizeof(int32_t);
  const auto offsets = std::make_shared<DeviceMemory>(offset_bytes, stream);
  copy_from_host(offsets->use_on(stream), offset_bytes, sample_offsets, offset_bytes, 1, stream);
  const int64_t half = settings_.fft_length / 2;
  const auto* window = reinterpret_cast<const double*>(memory_->use_on(stream));
  const double *cosine = window + settings_.window_length, *sine = cosine + half + 1, *weights = sine + half + 1;
  const auto* first = reinterpret_cast<const int32_t*>(weights + weights_);
  const LogMelArguments arguments{samples.use_on<float>(stream),
                                  reinterpret_cast<const int32_t*>(offsets->data()),
                                  sequences.offsets,
                                  window,
                                  cosine,
                                  sine,
                                  weights,
                                  first,
                                  first + settings_.mel_bins,
                                  static_cast<int>(settings_.window_length),
                                  static_cast<int>(settings_.hop_length),
                                  static_cast<int>(framing.before),
                                  static_cast<int>(half),
                                  static_cast<int>(framing.mirrored_window),
                                  static_cast<int>(settings_.mel_bins),
                                  framing.full_scale,
                                  framing.preemphasis,
                                  settings_.frame_preemphasis.value_or(0.0),
                                  settings_.floor,
                                  settings_.frame_preemphasis.has_value(),
                                  settings_.energy_floor == audio::EnergyFloor::kAdded,
                                  features.use_on<float>(stream),
                                  features.row_stride()};
  log_mel(arguments, sequences, stream.handle());
}

}  // namespace usmlite::cuda
