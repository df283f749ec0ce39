#include "cuda/launch.hpp"
#include "cuda/lstm_gates.cuh"
#include "cuda/lstm_step.hpp"

namespace usmlite::cuda {
namespace {

constexpr int kStepThreads = 128;  // a thread takes one value of the hidden state of one sequence

struct StepArguments {
  LstmStep step;
  int hidden;
  int64_t gates_stride, hidden_stride, cells_stride;
  const uint16_t *inputs, *product;
  uint16_t *gates, *state, *states, *previous;
  float* cells;
};

__global__ void __launch_bounds__(kStepThreads) step_kernel(const StepArguments a) {
  ptx::take_turn();
  const int i = static_cast<int>(blockIdx.x), j = static_cast<int>(blockIdx.y * kStepThreads + threadIdx.x);
  if (j >= a.hidden) return;
  const int64_t row = a.step.rows[i];
  float sums[4];
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) {
    const int64_t at = row * a.gates_stride + gate * a.hidden + j;
    sums[gate] = ptx::to_float<BFloat16>(a.inputs[at]);
    if (a.product) sums[gate] += ptx::to_float<BFloat16>(a.product[i * a.gates_stride + gate * a.hidden + j]);
    a.gates[at] = ptx::from_float<BFloat16>(sums[gate]);
  }
  float* cell = a.cells + row * a.cells_stride + j;
  const float before = a.step.is_first ? 0.0f : cell[-a.cells_stride];
  const float after = lstm::sigmoid(sums[1]) * before + lstm::sigmoid(sums[0]) * lstm::hyperbolic_tangent(sums[2]);
  const uint16_t hidden = ptx::from_float<BFloat16>(lstm::sigmoid(sums[3]) * lstm::hyperbolic_tangent(after));
  *cell = after;
  a.state[i * a.hidden_stride + j] = hidden;
  const int64_t at = row * a.hidden_stride + j;
  a.states[at] = hidden;
  if (a.step.is_first) a.previous[at] = 0;
  if (i < a.step.next_count) a.previous[at + a.hidden_stride] = hidden;
}

struct BackwardArguments {
  LstmStep step;
  int hidden;
  int64_t gates_stride, hidden_stride, cells_stride;
  const uint16_t *gates, *gradient, *product;
  const float* cells;
  float* cell_gradient;
  uint16_t *gate_gradient, *gathered;
};

__global__ void __launch_bounds__(kStepThreads) step_backward_kernel(const BackwardArguments a) {
  ptx::take_turn();
  const int i = static_cast<int>(blockIdx.x), j = static_cast<int>(blockIdx.y * kStepThreads + threadIdx.x);
  if (j >= a.hidden) return;
  const int64_t row = a.step.rows[i];
  const bool goes_on = i < a.step.next_count;
  float gates[4];
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) {
    const float sum = ptx::to_float<BFloat16>(a.gates[row * a.gates_stride + gate * a.hidden + j]);
    gates[gate] = gate == 2 ? lstm::hyperbolic_tangent(sum) : lstm::sigmoid(sum);
  }
  const float *cell = a.cells + row * a.cells_stride + j, before = a.step.is_first ? 0.0f : cell[-a.cells_stride];
  const float tangent = lstm::hyperbolic_tangent(*cell);
  float above = ptx::to_float<BFloat16>(a.gradient[row * a.hidden_stride + j]);
  if (goes_on) above += ptx::to_float<BFloat16>(a.product[i * a.hidden_stride + j]);
  float* carried = a.cell_gradient + i * a.cells_stride + j;
  const float of_cell = (goes_on ? *carried : 0.0f) + above * gates[3] * (1.0f - tangent * tangent);
  *carried = of_cell * gates[1];
  const float slopes[4] = {of_cell * gates[2] * gates[0] * (1.0f - gates[0]), of_cell * before * gates[1] * (1.0f - gates[1]),
                           of_cell * gates[0] * (1.0f - gates[2] * gates[2]), above * tangent * gates[3] * (1.0f - gates[3])};
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) {
    const uint16_t slope = ptx::from_float<BFloat16>(slopes[gate]);
    const int column = gate * a.hidden + j;
    a.gate_gradient[row * a.gates_stride + column] = a.gathered[i * a.gates_stride + column] = slope;
  }
}

LaunchShape shape_of(const LstmStep& step, int hidden) {
  return {static_cast<unsigned>(step.count), static_cast<unsigned>((hidden + kStepThreads - 1) / kStepThreads), 1, kStepThreads, 0, 1, kernels_take_turns()};
}

}  // namespace

void lstm_step(const LstmStep& step, const DeviceMatrix& inputs, const DeviceMatrix* product, const LstmStates& states, const DeviceMatrix& state,
               const Stream& stream) {
  const auto hidden = static_cast<int>(state.columns());
  const StepArguments arguments{step,
                                hidden,
                                inputs.row_stride(),
                                state.row_stride(),
                                states.cells.row_stride(),
                                inputs.use_on<uint16_t>(stream),
                                product ? product->use_on<uint16_t>(stream) : nullptr,
                                states.gates.use_on<uint16_t>(stream),
                                state.use_on<uint16_t>(stream),
                                states.hidden.use_on<uint16_t>(stream),
                                states.previous.use_on<uint16_t>(stream),
                                states.cells.use_on<float>(stream)};
  launch(step_kernel, shape_of(step, hidden), stream.handle(), arguments);
}

void lstm_step_backward(const LstmStep& step, const LstmStates& states, const DeviceMatrix& gradient, const DeviceMatrix* product,
                        const DeviceMatrix& cell_gradient, const DeviceMatrix& gate_gradient, const DeviceMatrix& gathered,
                        const Stream& stream) {
  const auto hidden = static_cast<int>(gradient.columns());
  const BackwardArguments arguments{step,
                                    hidden,
                                    gate_gradient.row_stride(),
                                    gradient.row_stride(),
                                    cell_gradient.row_stride(),
                                    states.gates.use_on<uint16_t>(stream),
                                    gradient.use_on<uint16_t>(stream),
                                    product ? product->use_on<uint16_t>(stream) : nullptr,
                                    states.cells.use_on<float>(stream),
                                    cell_gradient.use_on<float>(stream),
                                    gate_gradient.use_on<uint16_t>(stream),
                                    gathered.use_on<uint16_t>(stream)};
  launch(step_backward_kernel, shape_of(step, hidden), stream.handle(), arguments);
}

}  // namespace usmlite::cuda
