#include "cuda/matmul_many_tokens_sm80.hpp"

namespace usmlite::cuda {

// Each in a file of its own (many_tokens_sm80_launch.cuh), so that these compile side by side.
bool launch_many_tokens_sm80_bfloat16(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream);
bool launch_many_tokens_sm80_float16(const MatmulArguments& arguments, StreamHandle stream);
bool launch_many_tokens_sm80_8bit(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream);

ManyTokensTileSm80 many_tokens_tile_sm80(int channels, int tokens) {
  const GpuProperties& gpu = gpu_properties();
  if (gpu.emulated) return tokens % 2 ? ManyTokensTileSm80::kSmall : ManyTokensTileSm80::kMedium;
  // The multiprocessor with most tiles decides. A small tile reads each operand twice as often; a tile's first stages and its
  // outputs take as long as half a tile, whatever its size. Not fitted to an Ampere card: none was at hand.
  const auto time = [&](int edge, double output_time) {
    const int64_t tiles = int64_t{(channels + edge - 1) / edge} * ((tokens + edge - 1) / edge);
    const int64_t busiest = (tiles + gpu.multiprocessors - 1) / gpu.multiprocessors;
    return edge * edge * output_time * (static_cast<double>(busiest) + 0.5);
  };
  return time(64, 1.4) < time(128, 1.0) ? ManyTokensTileSm80::kSmall : ManyTokensTileSm80::kMedium;
}

bool matmul_many_tokens_sm80(const MatmulArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream) {
  switch (arguments.weight.arithmetic) {
    case Arithmetic::kBFloat16: return launch_many_tokens_sm80_bfloat16(arguments, tile, stream);
    case Arithmetic::kFloat16: return launch_many_tokens_sm80_float16(arguments, stream);
    default: return launch_many_tokens_sm80_8bit(arguments, tile, stream);
  }
}

}  // namespace usmlite::cuda
