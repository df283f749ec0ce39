// A block takes an utterance and goes from frame to frame, another one from its end to its begin: threads share the states, and meet
// once a frame. Frames are taken relative to the largest state of the frame before, so float32 keeps its precision however long the
// utterance is. All that frames can do on their own, softmax and gradient, is in kernels of its own.
#include "cuda/ctc_recursion.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.hpp"
#include "cuda/warp_rows.cuh"

namespace usmlite::cuda {
namespace {

using namespace ctc;

constexpr int kGradientThreads = 128, kGradientWarps = kGradientThreads / 32;

template <typename T> __global__ void __launch_bounds__(32 * kWarpsPerBlock) emissions_kernel(const CtcLossArguments a) {
  ptx::take_turn();
  const Utterance utterance(a, static_cast<int>(blockIdx.y));
  const int frame = static_cast<int>(row_of_warp());
  if (frame >= utterance.frames) return;
  const int64_t row = utterance.first_frame + frame;
  const int lane = ptx::lane_id();
  const auto* logits = static_cast<const typename Element<T>::Type*>(a.logits) + row * a.logits_stride;
  float largest = kNever, not_finite = 0.0f;
  for (int v = lane; v < a.vocabulary; v += 32) {
    const float x = Element<T>::load(logits + v);
    if (!is_finite(x)) not_finite = 1.0f;
    largest = fmaxf(largest, x);
  }
  largest = warp_reduce(largest, Larger{});
  not_finite = warp_reduce(not_finite, Larger{});
  float sum = 0.0f;
  for (int v = lane; v < a.vocabulary; v += 32) sum += exponential(Element<T>::load(logits + v) - largest);
  sum = warp_reduce(sum, Sum{});
  const float normaliser = not_finite != 0.0f ? ptx::float_of(kNotANumber) : largest + logarithm(sum);
  if (lane == 0) a.normalisers[row] = normaliser;
  float* emissions = a.emissions + row * a.emissions_stride;
  for (int i = lane; i <= utterance.count; i += 32) {
    const int token = i == 0 ? a.blank : utterance.labels[i - 1].token;
    emissions[i] = fmaxf(Element<T>::load(logits + token) - normaliser, kLowestLogProbability);
  }
}

/// Losses, and alpha: the logarithm of all paths up to a state.
__device__ __forceinline__ void go_forward(const CtcLossArguments& a, const Utterance& utterance, int sequence) {
  const int thread = static_cast<int>(threadIdx.x);
  const RecursionMemory memory(a.longest_transcript);
  float not_finite = 0.0f;
  for (int t = thread; t < utterance.frames; t += kRecursionThreads) {
    if (!is_finite(a.normalisers[utterance.first_frame + t])) not_finite = 1.0f;
  }
  not_finite = block_reduce<kRecursionWarps>(not_finite, memory.largest(1), Larger{});
  const bool infeasible = utterance.frames < a.minimum_frames[sequence];
  if (not_finite != 0.0f || infeasible || utterance.frames == 0) {
    if (thread == 0) a.losses[sequence] = not_finite != 0.0f ? ptx::float_of(kNotANumber) : infeasible ? ptx::float_of(kInfinity) : 0.0f;
    return;
  }
  const int states = utterance.states;
  Emissions emissions(a, utterance, 0, 1);
  float* alpha = a.alpha + utterance.first_frame * a.states_stride;
  memory.prepare(utterance);
  float largest = kNever;
  for (int s = thread; s < states; s += kRecursionThreads) {
    const float value = s < 2 ? emissions.of(s) : kNever;
    memory.row(0)[s] = alpha[s] = value;
    largest = fmaxf(largest, value);
  }
  emissions.advance();
  memory.publish_largest(0, largest);
  ptx::block_sync();
  double scale = 0.0;  // sum of what frames were taken relative to
  for (int t = 1; t < utterance.frames; ++t) {
    alpha += a.states_stride;
    const float shift = memory.read_largest((t - 1) % 2);
    scale += static_cast<double>(shift);
    const float* before = memory.row((t - 1) % 2);
    float* now = memory.row(t % 2);
    largest = kNever;
    for (int s = thread; s < states; s += kRecursionThreads) {
      const float value = log_add(before[s], before[s - 1], before[s - 2] + memory.skip()[s]) - shift + emissions.of(s);
      now[s] = alpha[s] = value;
      largest = fmaxf(largest, value);
    }
    emissions.advance();
    memory.publish_largest(t % 2, largest);
    ptx::block_sync();
  }
  if (thread == 0) {
    const float* last = memory.row((utterance.frames - 1) % 2) + states - 1;  // states -1 and -2 are impossible ones
    a.losses[sequence] = static_cast<float>(-(scale + static_cast<double>(log_add(last[0], last[-1], kNever))));
  }
}

/// Beta: the logarithm of all paths from a state to the end, without what its own frame emits.
__device__ __forceinline__ void go_backward(const CtcLossArguments& a, const Utterance& utterance) {
  if (utterance.frames == 0) return;
  const int thread = static_cast<int>(threadIdx.x), states = utterance.states;
  const RecursionMemory memory(a.longest_transcript);
  Emissions emissions(a, utterance, utterance.frames - 1, -1);
  float* beta = a.beta + (utterance.first_frame + utterance.frames - 1) * a.states_stride;
  memory.prepare(utterance);
  // Rows in shared memory include what their frame emits.
  float largest = kNever;
  for (int s = thread; s < states; s += kRecursionThreads) {
    beta[s] = s >= states - 2 ? 0.0f : kNever;
    const float value = beta[s] + emissions.of(s);
    memory.row(0)[s] = value;
    largest = fmaxf(largest, value);
  }
  emissions.advance();
  memory.publish_largest(0, largest);
  ptx::block_sync();
  for (int step = 1; step < utterance.frames; ++step) {
    beta -= a.states_stride;
    const float shift = memory.read_largest((step - 1) % 2);
    const float* next = memory.row((step - 1) % 2);
    float* now = memory.row(step % 2);
    largest = kNever;
    for (int s = thread; s < states; s += kRecursionThreads) {
      const float onward = log_add(next[s], next[s + 1], next[s + 2] + memory.skip()[s + 2]) - shift, value = onward + emissions.of(s);
      beta[s] = onward;
      now[s] = value;
      largest = fmaxf(largest, value);
    }
    emissions.advance();
    memory.publish_largest(step % 2, largest);
    ptx::block_sync();
  }
}

__global__ void __launch_bounds__(kRecursionThreads) recursions_kernel(const CtcLossArguments a) {
  ptx::take_turn();
  const int sequence = static_cast<int>(blockIdx.x);
  const Utterance utterance(a, sequence);
  if (blockIdx.y == 0) go_forward(a, utterance, sequence); else go_backward(a, utterance);
}

/// A block takes a frame.
template <typename T>
__global__ void __launch_bounds__(kGradientThreads) gradient_kernel(const CtcLossArguments a, void* gradients) {
  ptx::take_turn();
  const int sequence = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  const Utterance utterance(a, sequence);
  if (static_cast<int>(blockIdx.x) >= utterance.frames) return;
  const int64_t row = utterance.first_frame + blockIdx.x;
  auto* gradient = static_cast<typename Element<T>::Type*>(gradients) + row * a.logits_stride;
  const float loss = a.losses[sequence];
  if (!is_finite(loss)) {
    const float value = loss != loss ? loss : 0.0f;
    for (int v = thread; v < a.vocabulary; v += kGradientThreads) Element<T>::store(gradient + v, value);
    return;
  }
  const auto* logits = static_cast<const typename Element<T>::Type*>(a.logits) + row * a.logits_stride;
  const float normaliser = a.normalisers[row];
  const auto probability = [&](int token) { return exponential(Element<T>::load(logits + token) - normaliser); };
  for (int v = thread; v < a.vocabulary; v += kGradientThreads) Element<T>::store(gradient + v, probability(v));

  // The posterior of a state is what alpha and beta make together, normalised over the states of the frame.
  float* shared = reinterpret_cast<float*>(shared_memory());
  const float *alpha = a.alpha + row * a.states_stride, *beta = a.beta + row * a.states_stride;
  const auto paths_through = [&](int s) { return alpha[s] + beta[s]; };
  float largest = 2.0f * kNever;
  for (int s = thread; s < utterance.states; s += kGradientThreads) largest = fmaxf(largest, paths_through(s));
  largest = block_reduce<kGradientWarps>(largest, shared, Larger{});
  float labels = 0.0f, blanks = 0.0f;
  for (int s = thread; s < utterance.states; s += kGradientThreads) (s % 2 == 1 ? labels : blanks) += exponential(paths_through(s) - largest);
  labels = block_reduce<kGradientWarps>(labels, shared + kGradientWarps, Sum{});
  blanks = block_reduce<kGradientWarps>(blanks, shared + 2 * kGradientWarps, Sum{});  // all threads have stored their softmax by now
  const float inverse = 1.0f / (labels + blanks);
  if (thread == 0) Element<T>::store(gradient + a.blank, probability(a.blank) - blanks * inverse);
  for (int i = thread; i < utterance.count; i += kGradientThreads) {
    if (!utterance.labels[i].is_first) continue;
    float posterior = 0.0f;
    for (int place = i; place >= 0; place = utterance.labels[place].next) posterior += exponential(paths_through(2 * place + 1) - largest);
    const int token = utterance.labels[i].token;
    Element<T>::store(gradient + token, probability(token) - posterior * inverse);
  }
}

LaunchShape frames_shape(const CtcLossArguments& a, int frames_per_block, unsigned threads, size_t shared_bytes) {
  const auto blocks = static_cast<unsigned>((a.sequences.longest + frames_per_block - 1) / frames_per_block);
  return {blocks, static_cast<unsigned>(a.sequences.count), 1, threads, shared_bytes, 1, kernels_take_turns()};
}

}  // namespace

size_t ctc_recursion_shared_bytes(int longest_transcript) {
  return (3 * (2 * static_cast<size_t>(longest_transcript) + 5) + 2 * kRecursionWarps) * sizeof(float);
}

void ctc_emissions(const CtcLossArguments& a, StreamHandle stream) {
  if (a.sequences.longest == 0) return;
  launch(a.type == DeviceType::kFloat32 ? emissions_kernel<Float32> : emissions_kernel<BFloat16>,
         frames_shape(a, kWarpsPerBlock, 32 * kWarpsPerBlock, 0), stream, a);
}

void ctc_recursions(const CtcLossArguments& a, StreamHandle stream) {
  const LaunchShape shape{static_cast<unsigned>(a.sequences.count), a.beta ? 2u : 1u, 1, kRecursionThreads,
                          ctc_recursion_shared_bytes(a.longest_transcript), 1, kernels_take_turns()};
  if (a.sequences.count > 0) launch(recursions_kernel, shape, stream, a);
}

void ctc_gradient(const CtcLossArguments& a, void* gradient, StreamHandle stream) {
  if (a.sequences.longest == 0) return;
  launch(a.type == DeviceType::kFloat32 ? gradient_kernel<Float32> : gradient_kernel<BFloat16>,
         frames_shape(a, 1, kGradientThreads, 3 * kGradientWarps * sizeof(float)), stream, a, gradient);
}

}  // namespace usmlite::cuda
