#include "cpu/low_rank.hpp"

#include <algorithm>
#include <vector>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/matmul_finish.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Rows whose narrow middle is kept until it is multiplied again.
constexpr int64_t kBlockRows = 32;
constexpr int kTileRows = 4;
constexpr int kTileRanks = Vector::kLanes == 16 ? 4 : 2;  // x kTileRows sums, which stay in registers
constexpr int kTileVectors = 2;
// Multiply-adds below which waking a thread costs more than it saves.
constexpr int64_t kWorkPerThread = 1 << 16;

/// Rows [begin, begin + R) times ranks [0, K) of `down`, scaled, into `hidden` (rows, rank).
template <int R, int K>
[[gnu::noinline]] void down_tile(int64_t in, const float* x, const float* down, float scale, float* hidden, int64_t rank) {
  Vector sums[R][K];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) sums[r][k] = Vector::zero();
  }
  const auto add = [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
    Vector factors[K];
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) factors[k] = Vector::load(down + k * in + i, lanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vector value = Vector::load(x + r * in + i, lanes);
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) sums[r][k] = multiply_add(value, factors[k], sums[r][k]);
    }
  };
  int64_t i = 0;
  for (; i + Vector::kLanes <= in; i += Vector::kLanes) add(i, Vector::kLanes);
  if (i < in) add(i, in - i);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) hidden[r * rank + k] = scale * sums[r][k].sum();
  }
}

template <int R>
void down_rows(const LowRankSegment& segment, int64_t in, const float* x, float scale, float* hidden) {
  int64_t k = 0;
  for (; k + kTileRanks <= segment.rank; k += kTileRanks) {
    down_tile<R, kTileRanks>(in, x, segment.down + k * in, scale, hidden + k, segment.rank);
  }
  for (; k < segment.rank; ++k) down_tile<R, 1>(in, x, segment.down + k * in, scale, hidden + k, segment.rank);
}

template <Activation kActivation>
inline Vector activated(Vector x) {
  if constexpr (kActivation == Activation::kRelu) return relu(x);
  else if constexpr (kActivation == Activation::kSilu) return silu(x);
  else return x;
}

/// R rows of y, C vectors wide: activation(y + hidden up).
template <Activation kActivation, int R, int C>
inline void up_tile(int64_t rank, int64_t out, const float* hidden, const float* up, float* y, int64_t last_lanes) {
  Vector sums[R][C];
  const auto lanes = [&](int c) { return c + 1 < C ? Vector::kLanes : last_lanes; };
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sums[r][c] = Vector::load(y + r * out + c * Vector::kLanes, lanes(c));
  }
  for (int64_t k = 0; k < rank; ++k) {
    Vector factors[C];
    for (int c = 0; c < C; ++c) factors[c] = Vector::load(up + k * out + c * Vector::kLanes, lanes(c));
    for (int r = 0; r < R; ++r) {
      const Vector value = Vector::all(hidden[r * rank + k]);
      for (int c = 0; c < C; ++c) sums[r][c] = multiply_add(value, factors[c], sums[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) activated<kActivation>(sums[r][c]).store(y + r * out + c * Vector::kLanes, lanes(c));
  }
}

template <Activation kActivation, int R>
void up_rows(const LowRankSegment& segment, int64_t out, const float* hidden, float* y) {
  constexpr int64_t kWide = kTileVectors * Vector::kLanes;
  int64_t column = 0;
  for (; column + kWide <= out; column += kWide) {
    up_tile<kActivation, R, kTileVectors>(segment.rank, out, hidden, segment.up + column, y + column, Vector::kLanes);
  }
  for (; column < out; column += Vector::kLanes) {
    const int64_t lanes = std::min(Vector::kLanes, out - column);
    up_tile<kActivation, R, 1>(segment.rank, out, hidden, segment.up + column, y + column, lanes);
  }
}

template <Activation kActivation>
void add_block(const LowRankSegment& segment, int64_t in, int64_t out, const float* x, float* y, float scale) {
  Scratch<float> hidden(static_cast<size_t>(kBlockRows * std::max<int64_t>(segment.rank, 1)));
  const int64_t rows = segment.end - segment.begin, tiled = rows / kTileRows * kTileRows;
  x += segment.begin * in;
  y += segment.begin * out;
  for (int64_t row = 0; row < tiled; row += kTileRows) {
    down_rows<kTileRows>(segment, in, x + row * in, scale, hidden.data() + row * segment.rank);
  }
  for (int64_t row = tiled; row < rows; ++row) down_rows<1>(segment, in, x + row * in, scale, hidden.data() + row * segment.rank);
  for (int64_t row = 0; row < tiled; row += kTileRows) {
    up_rows<kActivation, kTileRows>(segment, out, hidden.data() + row * segment.rank, y + row * out);
  }
  for (int64_t row = tiled; row < rows; ++row) up_rows<kActivation, 1>(segment, out, hidden.data() + row * segment.rank, y + row * out);
}

}  // namespace

void low_rank_add(const LowRankSegment* segments, int64_t count, int64_t in, int64_t out, const float* x, float* y,
                  float scale, Activation activation) {
  std::vector<LowRankSegment> blocks;
  int64_t work = 0;
  for (const LowRankSegment* segment = segments; segment < segments + count; ++segment) {
    if (segment->rank == 0 && activation == Activation::kNone) continue;
    for (int64_t begin = segment->begin; begin < segment->end; begin += kBlockRows) {
      blocks.push_back(*segment);
      blocks.back().begin = begin;
      blocks.back().end = std::min(begin + kBlockRows, segment->end);
    }
    work += (segment->end - segment->begin) * (segment->rank * (in + out) + out);
  }
  const auto run = [&](int64_t index) {
    switch (activation) {
      case Activation::kRelu: return add_block<Activation::kRelu>(blocks[index], in, out, x, y, scale);
      case Activation::kSilu: return add_block<Activation::kSilu>(blocks[index], in, out, x, y, scale);
      default: return add_block<Activation::kNone>(blocks[index], in, out, x, y, scale);
    }
  };
  // Contiguous parts: the product before has left neighbouring rows in the cache of one core.
  const auto count_of_blocks = static_cast<int64_t>(blocks.size());
  parallel_for(count_of_blocks, std::max<int64_t>(1, count_of_blocks * kWorkPerThread / std::max<int64_t>(work, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) run(index);
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
