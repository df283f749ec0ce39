// How packed products are divided: the entries of a table that bench/tune_cpu.ts measures and writes.
#pragma once
#include <cstdint>
#include <string_view>

#include "codec/packed_matrix.hpp"

namespace usmlite::cpu {

/// Every schedule gives the same bits. A product takes of it what its kernel can do: fewer rows where registers end.
struct PackedSchedule {
  int64_t few_rows;         // so many rows or fewer are multiplied while codes are decoded (AVX-512 alone, at most 16)
  int64_t least_tile_rows;  // of the heights of a register tile from here ..
  int64_t most_tile_rows;   // .. to here, the one that adds the fewest rows of zeros is taken, of equal ones the highest
  int64_t rows_per_task;    // rows that panels are expanded for
  int64_t turns;            // few rows: tasks that each thread takes one after the other
  int64_t matrix_rows;      // more rows than few, and at least so many, are multiplied in tile registers (AMX alone)
};

/// Weights whose tiles differ: dense ones, and gathered ones with two units or one to a window.
enum class WeightClass { kDense, kGathered2, kGathered1 };
/// Up to kShallowColumns inputs, or more: a pair of expanded panels and its rows fit in a first-level cache, or do not.
enum class ShapeClass { kShallow, kDeep };
inline constexpr int64_t kShallowColumns = 512;

struct PackedScheduleRow {
  std::string_view instruction_set;
  WeightClass weight;
  ShapeClass shape;
  PackedSchedule schedule;
};

namespace packed_schedule_table {
using enum WeightClass;
using enum ShapeClass;
inline constexpr PackedScheduleRow kRows[] = {
#include "cpu/packed_schedule_table.inc"
};
}  // namespace packed_schedule_table

inline WeightClass weight_class(const codec::PackedMatrix& weight) {
  if (!codec::is_gather(weight.order())) return WeightClass::kDense;
  return weight.arrangement().units == 2 ? WeightClass::kGathered2 : WeightClass::kGathered1;
}

/// What the table says. Every instruction set with kernels of its own has all rows.
constexpr const PackedSchedule& packed_schedule(std::string_view instruction_set, WeightClass weight, int64_t columns) {
  const ShapeClass shape = columns <= kShallowColumns ? ShapeClass::kShallow : ShapeClass::kDeep;
  const auto* row = packed_schedule_table::kRows;
  while (row->instruction_set != instruction_set || row->weight != weight || row->shape != shape) ++row;
  return row->schedule;
}

}  // namespace usmlite::cpu
