#include "cuda/transducer_lstm.hpp"

#include "cuda/launch.hpp"
#include "cuda/lstm_gates.cuh"
#include "cuda/ptx.cuh"
#include "cuda/transducer_greedy.hpp"

namespace usmlite::cuda {
namespace {

// A block has the gates of four units for 32 utterances: few rows of weights, so that there is a block for every multiprocessor. Its warps
// share out the columns, whose sums meet in shared memory, in one order.
constexpr int kLstmWarps = 8, kLstmThreads = 32 * kLstmWarps;
constexpr int kLstmTiles = 4, kLstmUtterances = 8 * kLstmTiles;  // a tile of a product is of eight
constexpr int kLstmSumStride = kLstmUtterances + 1;              // so that rows start in different banks

struct LstmArguments {
  const uint16_t *weights, *x, *before;
  const float *bias, *state;
  uint16_t* after;
  float* cell;
  int64_t bias_stride, x_stride, hidden_stride, cell_stride;
  int utterances, hidden;
  bool looks_up;
};

__global__ void __launch_bounds__(kLstmThreads) transducer_lstm_kernel(const LstmArguments a) {
  ptx::take_turn();
  auto& sums = *reinterpret_cast<float(*)[kLstmWarps][kLstmRows][kLstmSumStride]>(shared_memory());
  const int lane = ptx::lane_id(), warp = ptx::warp_id(), g = lane / 4, t = lane % 4;
  const int first = static_cast<int>(blockIdx.y) * kLstmUtterances, tiles = min(kLstmTiles, (a.utterances - first + 7) / 8);
  const auto token_of = [&](int utterance) { return static_cast<int>(a.state[utterance * transducer_state::kColumns + transducer_state::kToken]); };

  int64_t rows[kLstmTiles];  // of x; -1: nothing is looked up
#pragma unroll
  for (int tile = 0; tile < kLstmTiles; ++tile) {
    const int utterance = first + 8 * tile + g;
    rows[tile] = utterance >= a.utterances ? -1 : a.looks_up ? token_of(utterance) : utterance;
  }
  const int steps = 2 * a.hidden / kLstmColumns;
  const uint4* weights = reinterpret_cast<const uint4*>(a.weights) + static_cast<int64_t>(blockIdx.x) * steps * 32 + lane;
  float products[kLstmTiles][4] = {};
#pragma unroll 2
  for (int step = steps * warp / kLstmWarps; step < steps * (warp + 1) / kLstmWarps; ++step) {
    const uint4 packed = weights[step * 32];
    const uint32_t left[4] = {packed.x, packed.y, packed.z, packed.w};
    const int column = kLstmColumns * step + 4 * t;  // four of them lie together, of x or of the state before
#pragma unroll
    for (int tile = 0; tile < kLstmTiles; ++tile) {
      if (tile >= tiles) break;
      const uint16_t* from = nullptr;
      if (column >= a.hidden) {
        if (first + 8 * tile + g < a.utterances) from = a.before + (first + 8 * tile + g) * a.hidden_stride + column - a.hidden;
      } else if (rows[tile] >= 0) {
        from = a.x + rows[tile] * a.x_stride + column;
      }
      const uint2 right = from ? *reinterpret_cast<const uint2*>(from) : uint2{0, 0};
      const uint32_t b[2] = {right.x, right.y};
      ptx::mma<Float16>(products[tile], left, b);
    }
  }
#pragma unroll
  for (int tile = 0; tile < kLstmTiles; ++tile) {
    if (tile >= tiles) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[warp][g + 8 * (i / 2)][8 * tile + 2 * t + i % 2] = products[tile][i];
  }
  ptx::block_sync();

  const int column = static_cast<int>(threadIdx.x) / kLstmUnits, unit = static_cast<int>(threadIdx.x) % kLstmUnits;
  const int utterance = first + column, at = static_cast<int>(blockIdx.x) * kLstmUnits + unit;
  if (column >= kLstmUtterances || utterance >= a.utterances) return;
  uint16_t& after = a.after[utterance * a.hidden_stride + at];
  if (token_of(utterance) < 0) {
    after = a.before[utterance * a.hidden_stride + at];
    return;
  }
  float gates[4];
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) {
    const int row = gate * kLstmUnits + unit;
    gates[gate] = a.bias[blockIdx.x * a.bias_stride + row];
    for (int of = 0; of < kLstmWarps; ++of) gates[gate] += sums[of][row][column];
  }
  float& kept = a.cell[utterance * a.cell_stride + at];
  const float cell = lstm::sigmoid(gates[1]) * kept + lstm::sigmoid(gates[0]) * lstm::hyperbolic_tangent(gates[2]);
  kept = cell;
  after = ptx::from_float<Float16>(lstm::sigmoid(gates[3]) * lstm::hyperbolic_tangent(cell));
}

}  // namespace

void transducer_lstm(const TransducerLstmStep& step, const Stream& stream) {
  const auto utterances = static_cast<int>(step.before->rows()), hidden = static_cast<int>(step.before->columns());
  const LstmArguments arguments{.weights = step.weights->use_on<uint16_t>(stream),
                                .x = step.x->use_on<uint16_t>(stream),
                                .before = step.before->use_on<uint16_t>(stream),
                                .bias = step.bias->use_on<float>(stream),
                                .state = step.state->use_on<float>(stream),
                                .after = step.after->use_on<uint16_t>(stream),
                                .cell = step.cell->use_on<float>(stream),
                                .bias_stride = step.bias->row_stride(),
                                .x_stride = step.x->row_stride(),
                                .hidden_stride = step.before->row_stride(),
                                .cell_stride = step.cell->row_stride(),
                                .utterances = utterances,
                                .hidden = hidden,
                                .looks_up = step.looks_up};
  const LaunchShape shape{static_cast<unsigned>(hidden / kLstmUnits), static_cast<unsigned>((utterances + kLstmUtterances - 1) / kLstmUtterances), 1,
                          kLstmThreads, sizeof(float) * kLstmWarps * kLstmRows * kLstmSumStride, 1, kernels_take_turns()};
  launch(transducer_lstm_kernel, shape, stream.handle(), arguments);
}

}  // namespace usmlite::cuda
