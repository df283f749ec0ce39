// The joint network's first half, a frame and a prediction added, and the way of gradients back through it.
#include "cuda/launch.hpp"
#include "cuda/row_values.cuh"
#include "cuda/transducer_cells.cuh"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

using transducer::Cell, transducer::owner_of, transducer::Utterance;

struct JoinArguments {
  TransducerCells cells;
  TransducerSlab slab;
  const uint16_t *frames, *predictions;
  uint16_t* hidden;
  int64_t rows, stride;
};

__global__ void __launch_bounds__(32 * kWarpsPerBlock) join_cells_kernel(const JoinArguments a) {
  ptx::take_turn();
  const int64_t row = row_of_warp();
  if (row >= a.rows) return;
  const uint16_t *frame = nullptr, *prediction = nullptr;
  if (row < a.slab.count) {
    const Cell cell(a.cells, a.slab.first + static_cast<int>(row));
    frame = a.frames + (cell.utterance.first_frame + cell.t) * a.stride;
    prediction = a.predictions + (cell.utterance.first_prediction + cell.u) * a.stride;
  }
  for (int64_t column = ptx::lane_id() * kHalvesPerVector; column < a.stride; column += 32 * kHalvesPerVector) {
    float sums[kHalvesPerVector] = {}, addends[kHalvesPerVector];
    if (frame) {
      load_values<BFloat16>(frame + column, sums);
      load_values<BFloat16>(prediction + column, addends);
#pragma unroll
      for (int i = 0; i < kHalvesPerVector; ++i) {
        const float sum = sums[i] + addends[i];
        sums[i] = sum < 0.0f ? 0.0f : sum;  // keeps NaN
      }
    }
    store_values<BFloat16>(a.hidden + row * a.stride + column, sums);
  }
}

// A block takes 64 columns of a frame or a prediction: 8 threads beside each other take 8 columns each of every 32nd cell. Its sums have one order.
constexpr int kJointThreads = 256, kVectors = 8, kLanes = kJointThreads / kVectors, kJointColumns = kVectors * kHalvesPerVector;

struct JoinBackwardArguments {
  TransducerCells cells;
  TransducerSlab slab;
  TransducerRows rows;
  const uint16_t *hidden, *gradient;
  uint16_t* frames;
  float* predictions;
  int64_t stride, predictions_stride;
  int columns;
};

/// Rows of the slab that are added up.
struct Addends {
  int64_t first, stride;
  int count;
};

__device__ __forceinline__ Addends addends_of_frame(const JoinBackwardArguments& a, int frame) {
  const Utterance utterance(a.cells, owner_of(a.cells.frame_offsets, a.cells.count, frame));
  return {utterance.cell(frame - utterance.first_frame, 0) - a.slab.first, 1, utterance.places()};
}

__device__ __forceinline__ Addends addends_of_prediction(const JoinBackwardArguments& a, int prediction) {
  const Utterance utterance(a.cells, owner_of(a.cells.prediction_offsets, a.cells.count, prediction));
  const int begin = max(0, a.rows.first_frame - utterance.first_frame);
  const int end = min(utterance.frames, a.rows.first_frame + a.rows.frame_count - utterance.first_frame);
  return {utterance.cell(begin, prediction - utterance.first_prediction) - a.slab.first, utterance.places(), max(0, end - begin)};
}

__global__ void __launch_bounds__(kJointThreads) join_backward_kernel(const JoinBackwardArguments a) {
  ptx::take_turn();
  const int target = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x), lane = thread / kVectors;
  const int vector = thread % kVectors * kHalvesPerVector, column = static_cast<int>(blockIdx.y) * kJointColumns + vector;
  const bool is_frame = target < a.rows.frame_count;
  const int row = is_frame ? a.rows.first_frame + target : a.rows.first_prediction + target - a.rows.frame_count;
  const Addends addends = is_frame ? addends_of_frame(a, row) : addends_of_prediction(a, row);
  float totals[kHalvesPerVector] = {};
  for (int i = lane; i < addends.count && column < a.columns; i += kLanes) {
    const int64_t at = (addends.first + i * addends.stride) * a.stride + column;
    float hidden[kHalvesPerVector], gradient[kHalvesPerVector];
    load_values<BFloat16>(a.hidden + at, hidden);
    load_values<BFloat16>(a.gradient + at, gradient);
#pragma unroll
    for (int j = 0; j < kHalvesPerVector; ++j) totals[j] += hidden[j] <= 0.0f ? 0.0f : gradient[j];
  }
  auto* parts = reinterpret_cast<float*>(shared_memory());  // (kLanes, kJointColumns)
#pragma unroll
  for (int j = 0; j < kHalvesPerVector; ++j) parts[lane * kJointColumns + vector + j] = totals[j];
  ptx::block_sync();
  const int own = static_cast<int>(blockIdx.y) * kJointColumns + thread;
  if (thread >= kJointColumns || own >= a.columns) return;
  float total = 0.0f;
  for (int i = 0; i < kLanes; ++i) total += parts[i * kJointColumns + thread];
  if (is_frame) a.frames[row * a.stride + own] = ptx::from_float<BFloat16>(total);
  else a.predictions[row * a.predictions_stride + own] += total;
}

}  // namespace

void transducer_join(const TransducerCells& cells, const TransducerSlab& slab, const DeviceMatrix& frames, const DeviceMatrix& predictions,
                     const DeviceMatrix& hidden, const Stream& stream) {
  const JoinArguments arguments{cells, slab, frames.use_on<uint16_t>(stream), predictions.use_on<uint16_t>(stream), hidden.use_on<uint16_t>(stream),
                                hidden.rows(), hidden.row_stride()};
  launch(join_cells_kernel,
         LaunchShape{blocks_of_warps(hidden.rows()), 1, 1, 32 * kWarpsPerBlock, 0, 1, kernels_take_turns()},
         stream.handle(), arguments);
}

void transducer_join_backward(const TransducerCells& cells, const TransducerSlab& slab, const TransducerRows& rows, const DeviceMatrix& hidden,
                              const DeviceMatrix& gradient, const DeviceMatrix& frames, const DeviceMatrix& predictions,
                              const Stream& stream) {
  const auto columns = static_cast<int>(hidden.columns());
  const JoinBackwardArguments arguments{cells,
                                        slab,
                                        rows,
                                        hidden.use_on<uint16_t>(stream),
                                        gradient.use_on<uint16_t>(stream),
                                        frames.use_on<uint16_t>(stream),
                                        predictions.use_on<float>(stream),
                                        hidden.row_stride(),
                                        predictions.row_stride(),
                                        columns};
  launch(join_backward_kernel,
         LaunchShape{static_cast<unsigned>(rows.frame_count + rows.prediction_count),
                     static_cast<unsigned>((columns + kJointColumns - 1) / kJointColumns), 1, kJointThreads, kLanes * kJointColumns * sizeof(float),
                     1, kernels_take_turns()},
         stream.handle(), arguments);
}

}  // namespace usmlite::cuda
