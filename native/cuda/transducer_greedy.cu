#include "cuda/transducer_greedy.hpp"

#include "cuda/block_reduction.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.hpp"
#include "cuda/natural_logarithm.cuh"

namespace usmlite::cuda {
namespace {

using namespace transducer_state;

constexpr int kUtteranceThreads = 128, kUtteranceWarps = kUtteranceThreads / 32;  // a block takes an utterance

template <typename T> __global__ void __launch_bounds__(kUtteranceThreads)
    join_kernel(const typename Element<T>::Type* frames, int64_t frames_stride, const uint16_t* prediction, int64_t prediction_stride, int joint,
                const float* state, uint16_t* y, int64_t y_stride) {
  ptx::take_turn();
  const int64_t row = blockIdx.x;
  const int frame = static_cast<int>(state[row * kColumns + kFrame]);
  const bool running = frame < static_cast<int>(state[row * kColumns + kEnd]);
  for (int i = static_cast<int>(threadIdx.x); i < joint; i += kUtteranceThreads) {
    const float sum =
        running ? Element<T>::load(frames + frame * frames_stride + i) + ptx::to_float<Float16>(prediction[row * prediction_stride + i]) : 0.0f;
    y[row * y_stride + i] = ptx::from_float<Float16>(sum > 0.0f || sum != sum ? sum : 0.0f);
  }
}

__global__ void __launch_bounds__(kUtteranceThreads)
    decide_kernel(const uint16_t* scores, int64_t stride, const TransducerRules rules, float* state, float* steps) {
  ptx::take_turn();
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  float* standing = state + row * kColumns;
  float* step = steps + row * kColumns;
  const int frame = static_cast<int>(standing[kFrame]);
  if (frame >= static_cast<int>(standing[kEnd])) {
    if (thread == 0) {
      standing[kToken] = step[0] = -1.0f;
      step[1] = step[2] = step[3] = 0.0f;
    }
    return;
  }
  const uint16_t* x = scores + row * stride;
  float* shared = reinterpret_cast<float*>(shared_memory());
  float largest = -3.0e38f;
  for (int i = thread; i < rules.vocabulary; i += kUtteranceThreads) largest = fmaxf(largest, ptx::to_float<Float16>(x[i]));
  largest = block_reduce<kUtteranceWarps>(largest, shared, Larger{});
  float sum = 0.0f, first = static_cast<float>(rules.vocabulary);  // of those that are the largest
  for (int i = thread; i < rules.vocabulary; i += kUtteranceThreads) {
    const float score = ptx::to_float<Float16>(x[i]);
    sum += exponential(score - largest);
    if (score == largest) first = fminf(first, static_cast<float>(i));
  }
  sum = block_reduce<kUtteranceWarps>(sum, shared + kUtteranceWarps, Sum{});
  first = -block_reduce<kUtteranceWarps>(-first, shared + 2 * kUtteranceWarps, Larger{});
  if (thread != 0) return;
  const int id = min(static_cast<int>(first), rules.vocabulary - 1);
  int duration = 0;
  if (rules.duration_count > 0) {
    int best = 0;
    for (int i = 1; i < rules.duration_count; ++i) {
      if (ptx::to_float<Float16>(x[rules.vocabulary + i]) > ptx::to_float<Float16>(x[rules.vocabulary + best])) best = i;
    }
    duration = rules.durations[best];
  }
  step[0] = static_cast<float>(id);
  step[1] = static_cast<float>(duration);
  step[2] = -logarithm(sum);
  step[3] = static_cast<float>(frame);
  // As TransducerGreedySearch goes on.
  if (id == rules.blank) duration = max(1, duration);
  int symbols = duration > 0 ? 0 : static_cast<int>(standing[kSymbols]) + 1;
  if (symbols >= rules.maximum_symbols) duration = 1, symbols = 0;
  standing[kFrame] = static_cast<float>(frame + duration);
  standing[kSymbols] = static_cast<float>(symbols);
  standing[kToken] = id == rules.blank ? -1.0f : static_cast<float>(id);
}

LaunchShape block_for_each(const DeviceMatrix& state, size_t shared_bytes = 0) {
  return {static_cast<unsigned>(state.rows()), 1, 1, kUtteranceThreads, shared_bytes, 1, kernels_take_turns()};
}

}  // namespace

void transducer_join(const DeviceMatrix& frames, const DeviceMatrix& prediction, const DeviceMatrix& state, const DeviceMatrix& y,
                     const Stream& stream) {
  const LaunchShape shape = block_for_each(state);
  const uint16_t* from = prediction.use_on<uint16_t>(stream);
  const auto joint = static_cast<int>(frames.columns());
  const float* standing = state.use_on<float>(stream);
  uint16_t* to = y.use_on<uint16_t>(stream);
  if (frames.type() == DeviceType::kFloat32) {
    launch(join_kernel<Float32>, shape, stream.handle(), frames.use_on<float>(stream), frames.row_stride(), from, prediction.row_stride(), joint,
           standing, to, y.row_stride());
  } else {
    launch(join_kernel<BFloat16>, shape, stream.handle(), frames.use_on<uint16_t>(stream), frames.row_stride(), from, prediction.row_stride(), joint,
           standing, to, y.row_stride());
  }
}

void transducer_decide(const DeviceMatrix& scores, const TransducerRules& rules, const DeviceMatrix& state, const DeviceMatrix& steps,
                       const Stream& stream) {
  launch(decide_kernel, block_for_each(state, 3 * kUtteranceWarps * sizeof(float)), stream.handle(), scores.use_on<uint16_t>(stream),
         scores.row_stride(), rules, state.use_on<float>(stream), steps.use_on<float>(stream));
}

}  // namespace usmlite::cuda
