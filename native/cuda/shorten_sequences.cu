#include "cuda/shorten_sequences.hpp"

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {
namespace {

constexpr int kOffsetThreads = 128;  // a thread makes an offset, adding up what lies before it: sequences are few

__global__ void __launch_bounds__(kOffsetThreads) shorten_kernel(const int32_t* before, int count, int kernel, int stride, int padding,
                                                           int32_t* after) {
  ptx::take_turn();
  const int mine = static_cast<int>(blockIdx.x) * kOffsetThreads + static_cast<int>(threadIdx.x);
  if (mine > count) return;
  int sum = 0;
  for (int i = 0; i < mine; ++i) {
    const int frames = before[i + 1] - before[i], free = frames + 2 * padding - kernel;
    if (frames > 0 && free >= 0) sum += free / stride + 1;
  }
  after[mine] = sum;
}

}  // namespace

void shorten_sequences(const PackedSequences& before, const Shortening& shortening, int32_t* after, StreamHandle stream) {
  launch(shorten_kernel, LaunchShape{static_cast<unsigned>(before.count / kOffsetThreads + 1), 1, 1, kOffsetThreads, 0, 1, kernels_take_turns()},
         stream, before.offsets, before.count, shortening.kernel, shortening.stride, shortening.padding, after);
}

}  // namespace usmlite::cuda
