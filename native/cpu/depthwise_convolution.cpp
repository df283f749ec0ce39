#include "cpu/depthwise_convolution.hpp"

#include <algorithm>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// A unit of work is a block of channels over a chunk of time. The chunk is first copied, zeros around it, so that the
// taps of a channel block lie in consecutive cache lines instead of one per row of the activation.
constexpr int64_t kVectors = 2;
constexpr int64_t kDepthwiseBlock = kVectors * Vector::kLanes;
constexpr int64_t kChunk = 128;  // frames
constexpr int kTile = 8;         // results that are summed in registers at a time
constexpr int kStep = 4;         // factors that are held in registers meanwhile

struct Chunk {
  int64_t begin, end;                    // frames computed
  int64_t sequence_begin, sequence_end;  // frames that exist
};

std::vector<Chunk> chunks_of(const DepthwiseShape& s) {
  std::vector<Chunk> chunks;
  for (int64_t i = 0; i < s.sequences; ++i) {
    for (int64_t begin = s.offsets[i]; begin < s.offsets[i + 1]; begin += kChunk) {
      chunks.push_back({begin, std::min<int64_t>(begin + kChunk, s.offsets[i + 1]), s.offsets[i], s.offsets[i + 1]});
    }
  }
  return chunks;
}

// Up to kDepthwiseBlock channels starting at `first`: loads and stores keep inside them.
struct Block {
  int64_t first, width;

  Block(int64_t index, int64_t channels) : first(index * kDepthwiseBlock), width(std::min(kDepthwiseBlock, channels - first)) {}
  int64_t lanes(int64_t j) const { return std::clamp<int64_t>(width - j * Vector::kLanes, 0, Vector::kLanes); }
  Vector load(const float* row, int64_t j) const {
    const float* from = row + first + j * Vector::kLanes;
    return width == kDepthwiseBlock ? Vector::load(from) : Vector::load(from, lanes(j));
  }
  void store(Vector v, float* row, int64_t j) const {
    float* to = row + first + j * Vector::kLanes;
    width == kDepthwiseBlock ? v.store(to) : v.store(to, lanes(j));
  }
};

// packed[i] = x[chunk.begin - left + i] for i < frames + kernel - 1, zero outside the sequence and behind. (.., kDepthwiseBlock)
void pack(const float* x, int64_t channels, const Block& block, const Chunk& chunk, int64_t left, int64_t kernel,
          float* packed) {
  const int64_t begin = chunk.begin - left, end = chunk.end - left + kernel - 1;
  for (int64_t t = begin; t < end; ++t, packed += kDepthwiseBlock) {
    const bool inside = t >= chunk.sequence_begin && t < chunk.sequence_end;
    for (int64_t j = 0; j < kVectors; ++j) {
      (inside ? block.load(x + t * channels, j) : Vector::zero()).store(packed + j * Vector::kLanes);
    }
  }
  std::fill_n(packed, (kTile - 1) * kDepthwiseBlock, 0.0f);
}

// The taps of a block of channels as (kernel, kDepthwiseBlock), reversed in time for the gradient of the input.
void pack_weight(const float* weight, int64_t kernel, const Block& block, bool reversed, float* packed) {
  for (int64_t k = 0; k < kernel; ++k) {
    for (int64_t c = 0; c < kDepthwiseBlock; ++c) {
      const int64_t tap = reversed ? kernel - 1 - k : k;
      packed[k * kDepthwiseBlock + c] = c < block.width ? weight[(block.first + c) * kernel + tap] : 0.0f;
    }
  }
}

// to[r] = start[r] + sum_j factors[j] x[r + j] for kTile results r and `count` factors j, all rows of kDepthwiseBlock channels. Each
// x loaded meets kStep factors in registers: otherwise loads, not arithmetic, would set the pace. Both the convolution
// (results are frames, factors taps) and the gradient of its weight (results are taps, factors gradients) are this sum.
[[gnu::noinline]] void slide(const float* x, const float* factors, int64_t count, const float* start,
                             int64_t start_stride, float* to) {
  for (int64_t lane = 0; lane < kDepthwiseBlock; lane += Vector::kLanes) {
    Vector sums[kTile];
#pragma GCC unroll 8
    for (int r = 0; r < kTile; ++r) sums[r] = Vector::load(start + r * start_stride + lane);
    int64_t j = 0;
    for (; j + kStep <= count; j += kStep) {
      Vector held[kStep];
#pragma GCC unroll 4
      for (int i = 0; i < kStep; ++i) held[i] = Vector::load(factors + (j + i) * kDepthwiseBlock + lane);
#pragma GCC unroll 16
      for (int row = 0; row < kTile + kStep - 1; ++row) {
        const Vector value = Vector::load(x + (j + row) * kDepthwiseBlock + lane);
#pragma GCC unroll 4
        for (int i = 0; i < kStep; ++i) {
          if (row - i >= 0 && row - i < kTile) sums[row - i] = multiply_add(held[i], value, sums[row - i]);
        }
      }
    }
    for (; j < count; ++j) {
      const Vector factor = Vector::load(factors + j * kDepthwiseBlock + lane);
#pragma GCC unroll 8
      for (int r = 0; r < kTile; ++r) {
        sums[r] = multiply_add(factor, Vector::load(x + (j + r) * kDepthwiseBlock + lane), sums[r]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kTile; ++r) sums[r].store(to + r * kDepthwiseBlock + lane);
  }
}

// Convolves one chunk; bias is (kDepthwiseBlock), y the row of its first frame.
void convolve(const float* packed, const float* weight, int64_t kernel, const float* bias, bool silu, const Block& block,
              int64_t frames, float* y, int64_t channels) {
  alignas(64) float tile[kTile * kDepthwiseBlock];
  for (int64_t t = 0; t < frames; t += kTile) {
    slide(packed + t * kDepthwiseBlock, weight, kernel, bias, 0, tile);
    for (int64_t r = 0; r < std::min<int64_t>(kTile, frames - t); ++r) {
      for (int64_t j = 0; j < kVectors; ++j) {
        const Vector sum = Vector::load(tile + r * kDepthwiseBlock + j * Vector::kLanes);
        block.store(silu ? sum * sigmoid(sum) : sum, y + (t + r) * channels, j);
      }
    }
  }
}

// sums[k] += sum_t gradient[t] packed[t + k] for all taps k, and a few behind them.
void correlate(const float* gradient, const float* packed, int64_t frames, int64_t kernel, float* sums) {
  for (int64_t k = 0; k < kernel; k += kTile) {
    slide(packed + k * kDepthwiseBlock, gradient, frames, sums + k * kDepthwiseBlock, kDepthwiseBlock, sums + k * kDepthwiseBlock);
  }
}

// Floats of a packed chunk; tiles may read kTile - 1 frames behind the last one they need.
size_t packed_size(int64_t kernel) { return static_cast<size_t>((kChunk + kernel - 1 + kTile - 1) * kDepthwiseBlock); }

}  // namespace

void depthwise_forward(const DepthwiseShape& s, const float* x, const float* weight, const float* bias, bool silu,
                       float* y) {
  const std::vector<Chunk> chunks = chunks_of(s);
  const int64_t blocks = (s.channels + kDepthwiseBlock - 1) / kDepthwiseBlock, count = static_cast<int64_t>(chunks.size());
  parallel_for(blocks * count, 2, [&](int64_t begin, int64_t end) {
    Scratch<float> packed(packed_size(s.kernel));
    Scratch<float> taps(static_cast<size_t>(s.kernel * kDepthwiseBlock));
    for (int64_t unit = begin; unit < end; ++unit) {
      const Block block(unit / count, s.channels);
      const Chunk& chunk = chunks[unit % count];
      if (unit == begin || unit % count == 0) pack_weight(weight, s.kernel, block, false, taps.data());
      alignas(64) float start[kDepthwiseBlock] = {};
      if (bias) std::copy_n(bias + block.first, block.width, start);
      pack(x, s.channels, block, chunk, s.left, s.kernel, packed.data());
      convolve(packed.data(), taps.data(), s.kernel, start, silu, block, chunk.end - chunk.begin,
               y + chunk.begin * s.channels, s.channels);
    }
  });
}

void depthwise_backward(const DepthwiseShape& s, const float* x, const float* weight, const float* gradient,
                        float* gradient_x, float* gradient_weight, float* gradient_bias) {
  const std::vector<Chunk> chunks = chunks_of(s);
  const int64_t right = s.kernel - 1 - s.left;
  // A block of channels belongs to one thread from first to last frame: no sum crosses threads.
  parallel_for((s.channels + kDepthwiseBlock - 1) / kDepthwiseBlock, 1, [&](int64_t begin, int64_t end) {
    Scratch<float> packed_x(packed_size(s.kernel)), packed_gradient(packed_size(s.kernel));
    Scratch<float> taps(static_cast<size_t>(s.kernel * kDepthwiseBlock));
    const int64_t sums_size = (s.kernel + kTile - 1) * kDepthwiseBlock;  // taps, and what the last tile adds behind them
    Scratch<float> sums(static_cast<size_t>(sums_size));
    alignas(64) const float zero[kDepthwiseBlock] = {};
    for (int64_t index = begin; index < end; ++index) {
      const Block block(index, s.channels);
      pack_weight(weight, s.kernel, block, true, taps.data());
      std::fill_n(sums.data(), sums_size, 0.0f);
      Vector bias[kVectors] = {Vector::zero(), Vector::zero()};
      for (const Chunk& chunk : chunks) {
        const int64_t frames = chunk.end - chunk.begin;
        // The gradient of the input is a convolution too: mirrored taps, mirrored padding.
        pack(gradient, s.channels, block, chunk, right, s.kernel, packed_gradient.data());
        const float* own = packed_gradient.data() + right * kDepthwiseBlock;  // gradient of the chunk's own frames
        if (gradient_x) {
          convolve(packed_gradient.data(), taps.data(), s.kernel, zero, false, block, frames,
                   gradient_x + chunk.begin * s.channels, s.channels);
        }
        if (gradient_weight) {
          pack(x, s.channels, block, chunk, s.left, s.kernel, packed_x.data());
          correlate(own, packed_x.data(), frames, s.kernel, sums.data());
        }
        if (gradient_bias) {
          for (int64_t t = 0; t < frames; ++t) {
            for (int j = 0; j < kVectors; ++j) bias[j] = bias[j] + Vector::load(own + t * kDepthwiseBlock + j * Vector::kLanes);
          }
        }
      }
      if (gradient_weight) {
        for (int64_t c = 0; c < block.width; ++c) {
          for (int64_t k = 0; k < s.kernel; ++k) {
            gradient_weight[(block.first + c) * s.kernel + k] = sums[k * kDepthwiseBlock + c];
          }
        }
      }
      if (gradient_bias) {
        for (int j = 0; j < kVectors; ++j) block.store(bias[j], gradient_bias, j);
      }
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
