#include "cuda/ctc_loss.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "core/error.hpp"
#include "cuda/ctc_loss_kernels.hpp"
#include "cuda/device_sequences.hpp"
#include "cuda/device_tensor.hpp"
#include "cuda/pinned_memory.hpp"

namespace usmlite::cuda {
namespace {

/// Offsets, least numbers of frames and labels in one block of memory.
std::shared_ptr<DeviceMemory> upload_transcripts(const CtcTranscripts& transcripts, const Stream& stream) {
  std::vector<uint8_t> bytes;
  const auto append = [&bytes](const auto& values) {
    const auto* begin = reinterpret_cast<const uint8_t*>(values.data());
    bytes.insert(bytes.end(), begin, begin + values.size() * sizeof(values[0]));
  };
  append(transcripts.offsets);
  append(transcripts.minimum_frames);
  append(transcripts.labels);
  auto memory = std::make_shared<DeviceMemory>(bytes.size(), stream);
  copy_from_host(memory->use_on(stream), bytes.size(), bytes.data(), bytes.size(), 1, stream);
  return memory;
}

}  // namespace

CtcTranscripts make_ctc_transcripts(const int32_t* targets, const int32_t* offsets, int64_t sequences) {
  CtcTranscripts transcripts{{}, {offsets, offsets + sequences + 1}, {}, 0};
  for (int64_t i = 0; i < sequences; ++i) {
    const int32_t count = offsets[i + 1] - offsets[i];
    const int32_t* tokens = targets + offsets[i];
    std::unordered_map<int32_t, size_t> latest;  // label of a token
    int32_t frames = count;
    for (int32_t place = 0; place < count; ++place) {
      frames += place > 0 && tokens[place] == tokens[place - 1];
      const auto [before, is_first] = latest.try_emplace(tokens[place], transcripts.labels.size());
      if (!is_first) {
        transcripts.labels[before->second].next = place;
        before->second = transcripts.labels.size();
      }
      transcripts.labels.push_back({tokens[place], -1, is_first});
    }
    transcripts.minimum_frames.push_back(frames);
    transcripts.longest = std::max(transcripts.longest, count);
  }
  return transcripts;
}

void ctc_loss(const DeviceMatrix& logits, DeviceSequences& sequences, const CtcTranscripts& transcripts, int blank, const DeviceMatrix& losses,
              const DeviceMatrix* gradient, const Stream& stream) {
  const int longest = transcripts.longest;
  if (ctc_recursion_shared_bytes(longest) > static_cast<size_t>(gpu_properties().shared_bytes_per_block)) {
    throw Error(error_code::kUnsupportedSpec,
                "a transcript has " + std::to_string(longest) + " labels; the CTC loss of this GPU takes fewer");
  }
  const auto uploaded = upload_transcripts(transcripts, stream);
  const auto* offsets = reinterpret_cast<const int32_t*>(uploaded->use_on(stream));
  const DeviceTensor normalisers(DeviceType::kFloat32, {logits.rows()}, stream);
  const DeviceTensor emissions(DeviceType::kFloat32, {logits.rows(), int64_t{longest} + 1}, stream);
  const auto states = [&] { return DeviceTensor(DeviceType::kFloat32, {logits.rows(), 2 * int64_t{longest} + 1}, stream); };
  const DeviceTensor alpha = states(), beta = gradient ? states() : DeviceTensor();
  const int count = sequences.count();
  const CtcLossArguments arguments{logits.use_on<void>(stream), logits.type(), logits.row_stride(), static_cast<int>(logits.columns()), blank,
                                   sequences.use_on(stream), reinterpret_cast<const CtcLabel*>(offsets + 2 * count + 1), offsets,
                                   offsets + count + 1, longest, losses.use_on<float>(stream), normalisers.use_on<float>(stream),
                                   emissions.use_on<float>(stream), emissions.row_stride(), alpha.use_on<float>(stream),
                                   gradient ? beta.use_on<float>(stream) : nullptr, alpha.row_stride()};
  ctc_emissions(arguments, stream.handle());
  ctc_recursions(arguments, stream.handle());
  if (gradient) ctc_gradient(arguments, gradient->use_on<void>(stream), stream.handle());
}

}  // namespace usmlite::cuda
