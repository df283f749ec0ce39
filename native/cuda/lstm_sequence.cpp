#include "cuda/lstm_sequence.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "cuda/lstm_step.hpp"
#include "cuda/device_sequences.hpp"
#include "cuda/training_product.hpp"

namespace usmlite::cuda {
namespace {

/// Which rows are computed in each step: of the sequences that have not ended, longest first, so that the states which go on lie together.
class Steps {
 public:
  Steps(const std::vector<int32_t>& offsets, const Stream& stream) : begins_{0} {
    std::vector<size_t> order(offsets.size() - 1);
    std::iota(order.begin(), order.end(), size_t{0});
    const auto length = [&](size_t i) { return offsets[i + 1] - offsets[i]; };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) > length(b); });
    std::vector<int32_t> rows;
    for (int32_t step = 0; !order.empty() && step < length(order.front()); ++step) {
      for (size_t i = 0; i < order.size() && length(order[i]) > step; ++i) rows.push_back(offsets[order[i]] + step);
      begins_.push_back(static_cast<int32_t>(rows.size()));
    }
    if (!rows.empty()) placed_.emplace(begins_, rows, stream);
  }
  int count() const { return static_cast<int>(begins_.size()) - 1; }
  int width() const { return size(0); }
  LstmStep at(int step, const Stream& stream) {
    return {placed_->use_on(stream).rows + begins_[static_cast<size_t>(step)], size(step), size(step + 1), step == 0};
  }

 private:
  int size(int step) const { return step < count() ? begins_[static_cast<size_t>(step) + 1] - begins_[static_cast<size_t>(step)] : 0; }

  std::vector<int32_t> begins_;
  std::optional<DeviceSequences> placed_;
};

}  // namespace

LstmStates lstm_sequence(const DeviceTensor& inputs, const DeviceTensor& recurrent, const std::vector<int32_t>& offsets,
                         const Stream& stream) {
  const int64_t rows = inputs.rows(), hidden = recurrent.columns();
  const auto made = [&](DeviceType type, int64_t count, int64_t columns) { return DeviceTensor(type, {count, columns}, stream); };
  LstmStates states{made(DeviceType::kBFloat16, rows, hidden), made(DeviceType::kBFloat16, rows, hidden), made(DeviceType::kFloat32, rows, hidden),
                    made(DeviceType::kBFloat16, rows, 4 * hidden)};
  Steps steps(offsets, stream);
  const DeviceTensor state = made(DeviceType::kBFloat16, steps.width(), hidden);
  for (int i = 0; i < steps.count(); ++i) {
    const LstmStep step = steps.at(i, stream);
    DeviceTensor product;
    if (i > 0) product = training_product({state.slice(0, step.count), false}, {recurrent, true}, 1.0f, DeviceType::kBFloat16, stream);
    lstm_step(step, inputs, i > 0 ? &product : nullptr, states, state, stream);
  }
  return states;
}

DeviceTensor lstm_sequence_backward(const LstmStates& states, const DeviceTensor& recurrent, const std::vector<int32_t>& offsets,
                                    const DeviceTensor& gradient, const Stream& stream) {
  const int64_t hidden = recurrent.columns();
  Steps steps(offsets, stream);
  DeviceTensor gate_gradient(DeviceType::kBFloat16, states.gates.shape(), stream);
  const DeviceTensor gathered(DeviceType::kBFloat16, {steps.width(), 4 * hidden}, stream);
  const DeviceTensor cell_gradient(DeviceType::kFloat32, {steps.width(), hidden}, stream);
  for (int i = steps.count() - 1; i >= 0; --i) {
    const LstmStep step = steps.at(i, stream);
    DeviceTensor product;
    if (step.next_count > 0) {
      product = training_product({gathered.slice(0, step.next_count), false}, {recurrent, false}, 1.0f, DeviceType::kBFloat16, stream);
    }
    lstm_step_backward(step, states, gradient, step.next_count > 0 ? &product : nullptr, cell_gradient, gate_gradient, gathered, stream);
  }
  return gate_gradient;
}

}  // namespace usmlite::cuda
