#include "cuda/transducer_loss.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "cuda/cast.hpp"
#include "cuda/elementwise.hpp"
#include "cuda/linear_finish.hpp"
#include "cuda/pinned_memory.hpp"
#include "cuda/training_product.hpp"
#include "cuda/transducer_loss_kernels.hpp"

namespace usmlite::cuda {
namespace {

constexpr int64_t kSlabElements = 1 << 24;  // of logits: 32 MB, of which the second-level cache holds much
constexpr int64_t kRowMultiple = 128;       // rows of products, so that slabs have few different shapes

/// What is computed at a time: whole frames, one after another, whatever utterances they are of.
struct Slab {
  TransducerSlab cells;
  TransducerRows targets;
  int64_t rows;
};

/// A batch in the memory of the GPU.
class PlacedBatch {
 public:
  PlacedBatch(const TransducerBatch& batch, const Stream& stream) : batch_(batch), stream_(stream) {
    const size_t extents = batch.count() + 1;
    std::vector<int32_t> numbers(batch.frame_offsets);
    numbers.insert(numbers.end(), batch.prediction_offsets.begin(), batch.prediction_offsets.end());
    numbers.push_back(0);
    for (size_t i = 0; i < batch.count(); ++i) numbers.push_back(numbers.back() + static_cast<int32_t>(batch.cell_count(i)));
    numbers.insert(numbers.end(), batch.targets.begin(), batch.targets.end());
    numbers_ = std::make_shared<DeviceMemory>(numbers.size() * sizeof(int32_t), stream);
    const auto* placed = reinterpret_cast<const int32_t*>(numbers_->data());
    copy_from_host(numbers_->data(), numbers.size() * sizeof(int32_t), numbers.data(), numbers.size() * sizeof(int32_t), 1, stream);
    cells = {placed, placed + extents, placed + 2 * extents, placed + 3 * extents, static_cast<int>(batch.count())};
    durations.count = static_cast<int>(batch.durations.size());
    std::copy(batch.durations.begin(), batch.durations.end(), durations.frames);
    logits = {batch.bias->use_on<float>(stream), static_cast<int>(batch.weight->rows()) - durations.count, batch.blank, batch.undernormalization};
    cut();
  }

  /// hidden (rows, joint) of a slab, and the logits that the weight makes of it.
  DeviceTensor join(const Slab& slab) const {
    const DeviceTensor hidden = hidden_.slice(0, slab.rows);
    transducer_join(cells, slab.cells, *batch_.frames, *batch_.predictions, hidden, stream_);
    return hidden;
  }
  DeviceTensor logits_of(const DeviceTensor& hidden) const {
    return training_product({hidden, false}, {*batch_.weight, true}, 1.0f, DeviceType::kBFloat16, stream_);
  }
  const std::vector<Slab>& slabs() const { return slabs_; }

  TransducerCells cells{};
  TransducerDurations durations{};
  TransducerLogits logits{};

 private:
  void cut() {
    const auto multiple = [](int64_t rows) { return (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple; };
    const int64_t wanted = multiple(batch_.slab_rows > 0 ? batch_.slab_rows : std::max<int64_t>(kSlabElements / batch_.weight->rows(), 1));
    int first_cell = 0;
    int64_t most = 0;
    for (size_t i = 0; i < batch_.count(); ++i) {
      const auto places = static_cast<int>(batch_.label_count(i) + 1);
      for (int frame = batch_.frame_offsets[i]; frame < batch_.frame_offsets[i + 1]; ++frame) {
        if (slabs_.empty() || slabs_.back().cells.count + places > wanted) {
          slabs_.push_back({{first_cell, 0}, {frame, 0, batch_.prediction_offsets[i], 0}, 0});
        }
        Slab& slab = slabs_.back();
        slab.cells.count += places;
        first_cell += places;
        slab.targets.frame_count = frame + 1 - slab.targets.first_frame;
        slab.targets.prediction_count = batch_.prediction_offsets[i + 1] - slab.targets.first_prediction;
        slab.rows = multiple(slab.cells.count);
        most = std::max(most, slab.rows);
      }
    }
    hidden_ = DeviceTensor(DeviceType::kBFloat16, {most, batch_.frames->columns()}, stream_);
  }

  const TransducerBatch& batch_;
  const Stream& stream_;
  std::shared_ptr<DeviceMemory> numbers_;
  DeviceTensor hidden_;
  std::vector<Slab> slabs_;
};

/// Memory of the recursions.
class PathMemory {
 public:
  PathMemory(const TransducerBatch& batch, bool backward, const Stream& stream)
      : memory_((static_cast<size_t>(batch.cells()) * (backward ? 2 : 1) + batch.count()) * sizeof(double), stream) {
    auto* const numbers = reinterpret_cast<double*>(memory_.data());
    double* const alpha = numbers + batch.count();
    paths = {alpha, backward ? alpha + batch.cells() : nullptr, numbers};
  }
  TransducerPaths paths{};

 private:
  DeviceMemory memory_;
};

void fill_with_zeros(const DeviceTensor& tensor, const Stream& stream) {
  if (tensor.memory()->bytes() > 0) driver::fill(tensor.use_on<uint8_t>(stream), 0, tensor.memory()->bytes(), stream.handle());
}

}  // namespace

int64_t TransducerBatch::cells() const {
  int64_t sum = 0;
  for (size_t i = 0; i < count(); ++i) sum += cell_count(i);
  if (sum > std::numeric_limits<int32_t>::max()) {
    throw Error(error_code::kInvalidArgument,
                "transducer loss: a batch of " + std::to_string(sum) + " pairs of a frame and a label; use smaller batches");
  }
  return sum;
}

TransducerLosses transducer_loss(const TransducerBatch& batch, const Stream& stream) {
  const auto floats = [&](int64_t count) { return DeviceTensor(DeviceType::kFloat32, {count}, stream); };
  const int64_t cells = batch.cells();
  const auto count = static_cast<int64_t>(batch.count());
  TransducerLosses result{floats(count), floats(cells * batch.kept()), {}, {}};
  if (batch.teacher) result.divergences = floats(count), result.shares = floats(cells);
  if (count == 0) return result;
  const PlacedBatch placed(batch, stream);
  float* const lattice = result.lattice.use_on<float>(stream);
  for (const Slab& slab : placed.slabs()) {
    transducer_emissions(placed.cells, slab.cells, placed.logits, placed.durations, placed.logits_of(placed.join(slab)), lattice, stream);
  }
  const PathMemory own(batch, false, stream);
  transducer_paths(placed.cells, placed.durations, lattice, own.paths, result.losses.use_on<float>(stream), stream);
  if (!batch.teacher) return result;
  const PathMemory taught(batch, true, stream);
  const auto* teacher = batch.teacher->use_on<float>(stream);
  transducer_paths(placed.cells, placed.durations, teacher, taught.paths, nullptr, stream);
  transducer_lesson(placed.cells, placed.durations, teacher, taught.paths, lattice, batch.undernormalization, result.shares.use_on<float>(stream),
                    result.divergences.use_on<float>(stream), stream);
  return result;
}

void transducer_loss_backward(const TransducerBatch& batch, const TransducerSeeds& seeds, const TransducerGradients& gradients,
                              const Stream& stream) {
  DeviceTensor predictions;  // sums over slabs
  if (gradients.predictions) {
    predictions = DeviceTensor(DeviceType::kFloat32, batch.predictions->shape(), stream);
    fill_with_zeros(predictions, stream);
  }
  if (gradients.bias) fill_with_zeros(*gradients.bias, stream);
  if (batch.cells() > 0) {
    const PlacedBatch placed(batch, stream);
    const PathMemory memory(batch, true, stream);
    const auto floats = [&](const DeviceTensor* tensor) { return tensor ? tensor->use_on<float>(stream) : nullptr; };
    transducer_paths(placed.cells, placed.durations, floats(seeds.lattice), memory.paths, nullptr, stream);
    const TransducerSlopes slopes{floats(seeds.losses),   floats(seeds.lattice),  floats(batch.teacher),
                                  floats(seeds.shares),   floats(seeds.factors),  floats(seeds.upstream),
                                  floats(seeds.divergence_upstream), seeds.divergence_factor, memory.paths};
    const DeviceTensor bias_part(DeviceType::kFloat32, {batch.weight->rows()}, stream);
    for (const Slab& slab : placed.slabs()) {
      const DeviceTensor hidden = placed.join(slab), logits = placed.logits_of(hidden);
      transducer_logit_gradient(placed.cells, slab.cells, placed.logits, placed.durations, slopes, logits, stream);
      if (gradients.weight) add_training_product({logits, true}, {hidden, false}, 1.0f, *gradients.weight, stream);
      if (gradients.bias) {
        linear_gradient({nullptr, Activation::kNone, 1.0f, {}}, logits, nullptr, nullptr, &bias_part, stream);
        scaled_sum(*gradients.bias, 1.0f, bias_part, 1.0f, *gradients.bias, stream);
      }
      if (!gradients.frames) continue;
      const DeviceTensor gradient = training_product({logits, false}, {*batch.weight, false}, 1.0f, DeviceType::kBFloat16, stream);
      transducer_join_backward(placed.cells, slab.cells, slab.targets, hidden, gradient, *gradients.frames, predictions, stream);
    }
  }
  if (gradients.predictions) cast(predictions, *gradients.predictions, stream);
}

}  // namespace usmlite::cuda
