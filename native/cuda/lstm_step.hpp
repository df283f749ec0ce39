// The kernels of a long short-term memory layer: what lies between the products of two steps.
#pragma once
#include "cuda/lstm_sequence.hpp"

namespace usmlite::cuda {

/// Sequences that have a row in this step, longest first: those that have one in the next come before the others.
struct LstmStep {
  const int32_t* rows;  // (count) of each, in the memory of the GPU
  int count;
  int next_count;  // that have another row behind this one
  bool is_first;   // states before it are zeros
};

/// Adds `product` (count, 4 * hidden), what recurrent weights make of the states before, or null in the first step, to the rows of `inputs`, and
/// fills the rows of `states`. state (count or more, hidden): after the step, for the next product.
void lstm_step(const LstmStep& step, const DeviceMatrix& inputs, const DeviceMatrix* product, const LstmStates& states, const DeviceMatrix& state,
               const Stream& stream);

/// `gradient` (rows, hidden) of `hidden`; `product` (next_count, hidden): what the next step hands back of it, null when next_count is 0.
/// cell_gradient (count or more, hidden) float32: what it hands back of cells, in place. Fills rows of gate_gradient, and gathered (count or more,
/// 4 * hidden) with the same, for the next product.
void lstm_step_backward(const LstmStep& step, const LstmStates& states, const DeviceMatrix& gradient, const DeviceMatrix* product,
                        const DeviceMatrix& cell_gradient, const DeviceMatrix& gate_gradient, const DeviceMatrix& gathered,
                        const Stream& stream);

}  // namespace usmlite::cuda
