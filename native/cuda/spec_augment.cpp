#include "cuda/spec_augment.hpp"

#include "cuda/device_tensor.hpp"
#include "cuda/pinned_memory.hpp"
#include "cuda/spec_augment_kernels.hpp"

namespace usmlite::cuda {

void spec_augment(const DeviceMatrix& features, const PackedSequences& sequences, const Masks& masks, const Stream& stream) {
  if (sequences.longest == 0 || masks.intervals.empty()) return;
  // Intervals first: they are read as pairs.
  std::vector<int32_t> words = masks.intervals;
  words.insert(words.end(), masks.offsets.begin(), masks.offsets.end());
  const size_t bytes = words.size() * sizeof(int32_t);
  const auto memory = std::make_shared<DeviceMemory>(bytes, stream);
  auto* intervals = reinterpret_cast<int32_t*>(memory->use_on(stream));
  copy_from_host(intervals, bytes, words.data(), bytes, 1, stream);
  const DeviceTensor means(DeviceType::kFloat32, {sequences.count}, stream);
  mask_with_means(features, sequences, {intervals + masks.intervals.size(), intervals, means.use_on<float>(stream)}, stream);
}

}  // namespace usmlite::cuda
