#include "cpu/packed_matmul.hpp"

#include <algorithm>
#include <string_view>

#include "core/allocator.hpp"
#include "core/thread_pool.hpp"
#include "cpu/gated_linear_unit.hpp"
#include "cpu/packed_finish.hpp"
#include "cpu/packed_tile.hpp"
#if defined(USMLITE_MATRIX_TILES)
#include "cpu/packed_tile_amx.hpp"
#endif
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

constexpr int64_t kPanel = PackedMatrix::kChannels;
// Multiply-adds below which waking a thread costs more than it saves.
constexpr int64_t kWorkPerThread = 1 << 18;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#define USMLITE_TEXT(name) #name
#define USMLITE_TEXT_OF(name) USMLITE_TEXT(name)
constexpr std::string_view kInstructionSet = USMLITE_TEXT_OF(USMLITE_ISA);

PanelPair pair_of(const PackedProduct& p, int64_t index) {
  if (p.gated) return {{index, index + p.y_columns / kPanel}, true};
  const bool second = 2 * index + 1 < p.weight.panels();
  return {{2 * index, 2 * index + second}, second};
}

// Few rows: codes are decoded while they are multiplied.
[[maybe_unused]] void multiply_few_rows(const PackedProduct& p, int64_t pairs, bool alone) {
  const auto run = [&](int64_t begin, int64_t end) {
    alignas(64) float sums[std::max<int64_t>(kFewRows, 1) * kPairChannels];
    for (int64_t index = begin; index < end; ++index) {
      const PanelPair pair = pair_of(p, index);
      multiply_few(p.weight, p.x, p.x.height(), pair.panels[0], pair.panels[1], sums);
      finish_tile(p, pair, 0, p.m, sums);
    }
  };
  if (alone) return run(0, pairs);
  // Several tasks to a thread, so that one held up by another program does not hold up all.
  const int64_t tasks = std::min(pairs, p.schedule.turns * thread_count());
  parallel_dynamic(tasks, [&](int64_t task) { run(pairs * task / tasks, pairs * (task + 1) / tasks); });
}

/// Tiles in vector registers, for multiply_many_rows.
struct VectorTiles {
  static constexpr int64_t kRows = kTileRows;
  static RowLayout layout(const PackedMatrix& weight, int64_t m, const PackedSchedule& schedule) {
    return {height(m, schedule.least_tile_rows, std::min(schedule.most_tile_rows, tile_rows(weight))), 1, gathers(weight)};
  }
  // Rows that are not there are multiplied like the others.
  static int64_t height(int64_t m, int64_t least, int64_t most) {
    if (m < most) return m;
    int64_t best = most;
    for (int64_t rows = most - 1; rows >= least; --rows) {
      if (divide_up(m, rows) * rows < divide_up(m, best) * best) best = rows;
    }
    return best;
  }
  explicit VectorTiles(const QuantizedRows&) {}

  static int64_t panel_bytes(const PackedMatrix& weight) { return weight.windows() * expanded_window_bytes(weight); }
  static const uint8_t* expand(const PackedMatrix& weight, int64_t panel, uint8_t* to) { return expand_panel(weight, panel, to); }
  static void multiply(const PackedMatrix& weight, const QuantizedRows& x, int64_t tile, int64_t first, int64_t second,
                       const uint8_t* w0, const uint8_t* w1, float* sums) {
    multiply_expanded(weight, x, tile, first, second, w0, w1, sums);
  }
};

// Many rows: panels are expanded once for all tiles of a task.
template <typename Tiles>
void multiply_many_rows(const PackedProduct& p, int64_t pairs, bool alone) {
  const int64_t tiles = p.x.tiles(), height = p.x.height(), blocks = divide_up(p.m, p.schedule.rows_per_task);
  const auto run = [&](int64_t task) {
    alignas(64) float sums[Tiles::kRows * kPairChannels];
    const Tiles registers(p.x);
    const int64_t block = task / pairs;
    const PanelPair pair = pair_of(p, task % pairs);
    const size_t bytes = static_cast<size_t>(Tiles::panel_bytes(p.weight));
    Scratch<uint8_t> first(bytes), second(bytes);
    const uint8_t* w0 = Tiles::expand(p.weight, pair.panels[0], first.data());
    const uint8_t* w1 = pair.second ? Tiles::expand(p.weight, pair.panels[1], second.data()) : w0;
    for (int64_t tile = tiles * block / blocks; tile < tiles * (block + 1) / blocks; ++tile) {
      prefetch_tile(p, pair, tile * height, std::min(height, p.m - tile * height));
      registers.multiply(p.weight, p.x, tile, pair.panels[0], pair.panels[1], w0, w1, sums);
      finish_tile(p, pair, tile * height, std::min(height, p.m - tile * height), sums);
    }
  };
  if (!alone) return parallel_dynamic(pairs * blocks, run);
  for (int64_t task = 0; task < pairs * blocks; ++task) run(task);
}

}  // namespace

void packed_matmul_int8(const PackedMatrix& weight, int64_t m, const float* x, float* y,
                        const MatmulEpilogue& epilogue, const int64_t* starts, ActivationCoding coding,
                        const PackedSchedule* other_schedule) {
  if (m <= 0) return;
  if (weight.order() == PackedOrder::kRows) return reference::packed_matmul_int8(weight, m, x, y, epilogue, starts, coding);
  const bool gated = epilogue.activation == Activation::kGlu;
  if (gated && weight.rows() % (2 * kPanel) != 0) {
    return gate_afterwards(m, weight.rows(), y, epilogue, [&](float* sums, const MatmulEpilogue& plain) {
      USMLITE_ISA::packed_matmul_int8(weight, m, x, sums, plain, starts, coding, other_schedule);
    });
  }
  const PackedSchedule& schedule =
      other_schedule ? *other_schedule : packed_schedule(kInstructionSet, weight_class(weight), weight.columns());
  const int64_t pairs = gated ? weight.rows() / 2 / kPanel : divide_up(weight.panels(), 2);
  const bool alone = m * weight.rows() * weight.columns() < 2 * kWorkPerThread;
  const auto multiply = [&](const RowLayout& layout, auto&& by) {
    const QuantizedRows rows(weight, coding, layout, x, starts, m);
    by({weight, rows, m, y, gated ? weight.rows() / 2 : weight.rows(), epilogue, gated, schedule}, pairs, alone);
  };
  if constexpr (kFewRows > 0) {
    if (m <= std::min(kFewRows, schedule.few_rows)) return multiply({few_rows_tile(m), 1, gathers(weight)}, multiply_few_rows);
  }
#if defined(USMLITE_MATRIX_TILES)
  if (m >= schedule.matrix_rows && MatrixTiles::take(weight)) return multiply(MatrixTiles::layout(weight, m), multiply_many_rows<MatrixTiles>);
#endif
  multiply(VectorTiles::layout(weight, m, schedule), multiply_many_rows<VectorTiles>);
}

}  // namespace usmlite::cpu::USMLITE_ISA
