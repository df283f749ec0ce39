#include "cpu/packed_matmul.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/allocator.hpp"
#include "core/divide_up.hpp"
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

#define USMLITE_TEXT(name) #name
#define USMLITE_TEXT_OF(name) USMLITE_TEXT(name)
constexpr std::string_view kInstructionSet = USMLITE_TEXT_OF(USMLITE_ISA);

PanelPair pair_of(const PackedProduct& p, int64_t index) {
  if (p.gated) return {{index, index + p.y_columns / kPanel}, true};
  const bool second = 2 * index + 1 < p.weight.panels();
  return {{2 * index, 2 * index + second}, second};
}

#if !defined(USMLITE_MATRIX_TILES)

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

#endif

/// Pairs of panels next to each other that a task expands once for all of its tiles.
template <typename Tiles>
class PanelBand {
 public:
  /// So many that they stay in a second-level cache while a tile of rows, in the first-level one, is multiplied by all of them.
  static int64_t pairs(const PackedMatrix& weight) { return std::clamp<int64_t>((256 << 10) / (2 * Tiles::panel_bytes(weight)), 1, kMost); }

  PanelBand(const PackedProduct& p, int64_t first, int64_t count)
      : first_(first), room_(static_cast<size_t>(2 * count * Tiles::panel_bytes(p.weight))) {
    for (int64_t i = 0; i < count; ++i) {
      const PanelPair pair = pair_of(p, first + i);
      uint8_t* to = room_.data() + 2 * i * Tiles::panel_bytes(p.weight);
      const uint8_t* w0 = Tiles::expand(p.weight, pair.panels[0], to);
      bytes_[i] = {w0, pair.second ? Tiles::expand(p.weight, pair.panels[1], to + Tiles::panel_bytes(p.weight)) : w0};
    }
  }
  /// The bytes of the two panels of a pair.
  const std::array<const uint8_t*, 2>& operator[](int64_t index) const { return bytes_[static_cast<size_t>(index - first_)]; }

 private:
  static constexpr int64_t kMost = 64;
  int64_t first_;
  Scratch<uint8_t> room_;
  std::array<std::array<const uint8_t*, 2>, kMost> bytes_;
};

// Many rows: tile after tile of them is multiplied by all pairs of a band, so that a tile is read once from memory, and
// that what is written to y at a time lies together.
template <typename Tiles>
void multiply_many_rows(const PackedProduct& p, int64_t pairs, bool alone) {
  constexpr int64_t kTasksPerThread = 4;  // so that a thread held up by another program does not hold up all
  const int64_t tiles = p.x.tiles(), height = p.x.height(), blocks = divide_up(p.m, p.schedule.rows_per_task);
  const int64_t most_tasks = kTasksPerThread * (alone ? 1 : thread_count());
  const int64_t bands = std::max(divide_up(pairs, PanelBand<Tiles>::pairs(p.weight)), std::min(pairs, divide_up(most_tasks, blocks)));
  const auto run = [&](int64_t task) {
    alignas(64) float sums[Tiles::kRows * kPairChannels];
    const Tiles registers(p.x);
    const int64_t block = task / bands, first = pairs * (task % bands) / bands, end = pairs * (task % bands + 1) / bands;
    const PanelBand<Tiles> band(p, first, end - first);
    for (int64_t tile = tiles * block / blocks; tile < tiles * (block + 1) / blocks; ++tile) {
      for (int64_t index = first; index < end; ++index) {
        const PanelPair pair = pair_of(p, index);
        registers.multiply(p.weight, p.x, tile, pair.panels[0], pair.panels[1], band[index][0], band[index][1], sums);
        finish_tile(p, pair, tile * height, std::min(height, p.m - tile * height), sums);
      }
    }
  };
  if (!alone) return parallel_dynamic(bands * blocks, run);
  for (int64_t task = 0; task < bands * blocks; ++task) run(task);
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
#if defined(USMLITE_MATRIX_TILES)
  // All else in vector registers, by the code of processors that have no others. A tile's two halves need a row each, whatever a schedule says.
  const bool few = m <= kFewRows || m < schedule.matrix_rows;
  if (few || !MatrixTiles::take(weight)) return avx512::packed_matmul_int8(weight, m, x, y, epilogue, starts, coding, &schedule);
  multiply(MatrixTiles::layout(weight, m), multiply_many_rows<MatrixTiles>);
#else
  if constexpr (kFewRows > 0) {
    if (m <= std::min(kFewRows, schedule.few_rows)) return multiply({few_rows_tile(m), 1, gathers(weight)}, multiply_few_rows);
  }
  multiply(VectorTiles::layout(weight, m, schedule), multiply_many_rows<VectorTiles>);
#endif
}

}  // namespace usmlite::cpu::USMLITE_ISA
