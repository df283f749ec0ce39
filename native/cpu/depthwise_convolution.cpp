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
constexpr int64_t kBlock = kVectors * Vector::kLanes;
constexpr int64_t kChunk = 128;  // frames
constexpr int kTile = 6;         // frames (or taps) x 2 vectors of accumulators stay in registers

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

// Up to kBlock channels starting at `first`: loads and stores keep inside them.
struct Block {
  int64_t first, width;

  Block(int64_t index, int64_t channels) : first(index * kBlock), width(std::min(kBlock, channels - first)) {}
  int64_t lanes(int64_t j) const { return std::clamp<int64_t>(width - j * Vector::kLanes, 0, Vector::kLanes); }
  Vector load(const float* row, int64_t j) const {
    const float* from = row + first + j * Vector::kLanes;
    return width == kBlock ? Vector::load(from) : Vector::load(from, lanes(j));
  }
  void store(Vector v, float* row, int64_t j) const {
    float* to = row + first + j * Vector::kLanes;
    width == kBlock ? v.store(to) : v.store(to, lanes(j));
  }
};

// packed[i] = x[chunk.begin - left + i] for i < frames + kernel - 1, zero outside the sequence. (.., kBlock)
void pack(const float* x, int64_t channels, const Block& block, const Chunk& chunk, int64_t left, int64_t kernel,
          float* packed) {
  const int64_t begin = chunk.begin - left, end = chunk.end - left + kernel - 1;
  for (int64_t t = begin; t < end; ++t, packed += kBlock) {
    const bool inside = t >= chunk.sequence_begin && t < chunk.sequence_end;
    for (int64_t j = 0; j < kVectors; ++j) {
      (inside ? block.load(x + t * channels, j) : Vector::zero()).store(packed + j * Vector::kLanes);
    }
  }
}

// The taps of a block of channels as (kernel, kBlock), reversed in time for the gradient of the input.
void pack_weight(const float* weight, int64_t kernel, const Block& block, bool reversed, float* packed) {
  for (int64_t k = 0; k < kernel; ++k) {
    for (int64_t c = 0; c < kBlock; ++c) {
      const int64_t tap = reversed ? kernel - 1 - k : k;
      packed[k * kBlock + c] = c < block.width ? weight[(block.first + c) * kernel + tap] : 0.0f;
    }
  }
}

// R frames: y[r] = activation(bias + sum_k weight[k] packed[r + k])
template <int R>
void convolve_tile(const float* packed, const float* weight, int64_t kernel, const Vector (&bias)[kVectors], bool silu,
                   const Block& block, float* y, int64_t channels) {
  Vector sums[R][kVectors];
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kVectors; ++j) sums[r][j] = bias[j];
  }
  for (int64_t k = 0; k < kernel; ++k, packed += kBlock, weight += kBlock) {
    for (int j = 0; j < kVectors; ++j) {
      const Vector w = Vector::load(weight + j * Vector::kLanes);
      for (int r = 0; r < R; ++r) {
        sums[r][j] = multiply_add(w, Vector::load(packed + r * kBlock + j * Vector::kLanes), sums[r][j]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kVectors; ++j) {
      const Vector v = silu ? sums[r][j] * sigmoid(sums[r][j]) : sums[r][j];
      block.store(v, y + r * channels, j);
    }
  }
}

// One chunk; y is the row of its first frame.
void convolve(const float* packed, const float* weight, int64_t kernel, const Vector (&bias)[kVectors], bool silu,
              const Block& block, int64_t frames, float* y, int64_t channels) {
  int64_t t = 0;
  for (; t + kTile <= frames; t += kTile) {
    convolve_tile<kTile>(packed + t * kBlock, weight, kernel, bias, silu, block, y + t * channels, channels);
  }
  for (; t < frames; ++t) {
    convolve_tile<1>(packed + t * kBlock, weight, kernel, bias, silu, block, y + t * channels, channels);
  }
}

// sums[r] += sum_t gradient[t] packed[t + r] for R neighbouring taps; gradient and packed are (.., kBlock).
template <int R>
void correlate_tile(const float* gradient, const float* packed, int64_t frames, float* sums) {
  Vector total[R][kVectors];
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kVectors; ++j) total[r][j] = Vector::load(sums + r * kBlock + j * Vector::kLanes);
  }
  for (int64_t t = 0; t < frames; ++t, gradient += kBlock, packed += kBlock) {
    for (int j = 0; j < kVectors; ++j) {
      const Vector g = Vector::load(gradient + j * Vector::kLanes);
      for (int r = 0; r < R; ++r) {
        total[r][j] = multiply_add(g, Vector::load(packed + r * kBlock + j * Vector::kLanes), total[r][j]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kVectors; ++j) total[r][j].store(sums + r * kBlock + j * Vector::kLanes);
  }
}

void correlate(const float* gradient, const float* packed, int64_t frames, int64_t kernel, float* sums) {
  int64_t k = 0;
  for (; k + kTile <= kernel; k += kTile) correlate_tile<kTile>(gradient, packed + k * kBlock, frames, sums + k * kBlock);
  for (; k < kernel; ++k) correlate_tile<1>(gradient, packed + k * kBlock, frames, sums + k * kBlock);
}

}  // namespace

void depthwise_forward(const DepthwiseShape& s, const float* x, const float* weight, const float* bias, bool silu,
                       float* y) {
  const std::vector<Chunk> chunks = chunks_of(s);
  const int64_t blocks = (s.channels + kBlock - 1) / kBlock, count = static_cast<int64_t>(chunks.size());
  parallel_for(blocks * count, 2, [&](int64_t begin, int64_t end) {
    Scratch<float> packed(static_cast<size_t>((kChunk + s.kernel - 1) * kBlock));
    Scratch<float> taps(static_cast<size_t>(s.kernel * kBlock));
    for (int64_t unit = begin; unit < end; ++unit) {
      const Block block(unit / count, s.channels);
      const Chunk& chunk = chunks[unit % count];
      if (unit == begin || unit % count == 0) pack_weight(weight, s.kernel, block, false, taps.data());
      Vector start[kVectors];
      for (int j = 0; j < kVectors; ++j) start[j] = bias ? block.load(bias, j) : Vector::zero();
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
  parallel_for((s.channels + kBlock - 1) / kBlock, 1, [&](int64_t begin, int64_t end) {
    const size_t packed_size = static_cast<size_t>((kChunk + s.kernel - 1) * kBlock);
    Scratch<float> packed_x(packed_size), packed_gradient(packed_size);
    Scratch<float> taps(static_cast<size_t>(s.kernel * kBlock)), sums(static_cast<size_t>(s.kernel * kBlock));
    const Vector zero[kVectors] = {Vector::zero(), Vector::zero()};
    for (int64_t index = begin; index < end; ++index) {
      const Block block(index, s.channels);
      pack_weight(weight, s.kernel, block, true, taps.data());
      std::fill_n(sums.data(), s.kernel * kBlock, 0.0f);
      Vector bias[kVectors] = {Vector::zero(), Vector::zero()};
      for (const Chunk& chunk : chunks) {
        const int64_t frames = chunk.end - chunk.begin;
        // The gradient of the input is a convolution too: mirrored taps, mirrored padding.
        pack(gradient, s.channels, block, chunk, right, s.kernel, packed_gradient.data());
        const float* own = packed_gradient.data() + right * kBlock;  // gradient of the chunk's own frames
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
            for (int j = 0; j < kVectors; ++j) bias[j] = bias[j] + Vector::load(own + t * kBlock + j * Vector::kLanes);
          }
        }
      }
      if (gradient_weight) {
        for (int64_t c = 0; c < block.width; ++c) {
          for (int64_t k = 0; k < s.kernel; ++k) {
            gradient_weight[(block.first + c) * s.kernel + k] = sums[k * kBlock + c];
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
