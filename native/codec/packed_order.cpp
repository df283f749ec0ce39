#include "codec/packed_order.hpp"

#include <algorithm>

namespace usmlite::codec {
namespace {

constexpr int64_t kWindow = 16;
constexpr int kUnitPlaces = 4;  // inputs that a unit's place in two bits distinguishes

// Most weights of any four adjacent inputs, beginning at a multiple of four, that N:M can keep.
int most_of_four(const WeightSpec& spec) {
  int most = 0;
  for (int begin = 0; begin < spec.of * kUnitPlaces; begin += kUnitPlaces) {
    int kept = 0;
    for (int at = begin; at < begin + kUnitPlaces;) {  // part by part, each within one N:M group
      const int end = std::min(begin + kUnitPlaces, (at / spec.of + 1) * spec.of);
      kept += std::min(end - at, spec.kept);
      at = end;
    }
    most = std::max(most, kept);
  }
  return most;
}

// Whether a pruned weight is no code: zero is (0 - zero point) there, or levels do not fit a byte without a step of two.
bool sums_kept(const WeightSpec& spec) {
  return spec.has_zero_points() || (spec.format == NumberFormat::kMidRise && spec.bits == 8);
}

// Whether every such four keep exactly that many, so that no place of a unit is left over.
bool fills_units(const WeightSpec& spec) { return kUnitPlaces % spec.of == 0; }

Arrangement sparse_arrangement(const WeightSpec& spec, const FastPath& path) {
  const int units = most_of_four(spec);
  const Arrangement gathered{path.gather, units, false, sums_kept(spec)};
  const bool whole_groups = spec.group_size / kWindow % std::max<int64_t>(gathered.block_windows(), 1) == 0;
  if (units <= 2 && (spec.has_zero() || fills_units(spec)) && whole_groups) return gathered;
  if (sums_kept(spec)) return {PackedOrder::kRows};
  if (spec.has_zero()) return {path.dense};
  return {PackedOrder::kDense8, 4, true};
}

}  // namespace

int64_t Arrangement::block_bytes() const {
  switch (order) {
    case PackedOrder::kDense1:
    case PackedOrder::kDense2: return 64;
    case PackedOrder::kDense4: return 128;
    case PackedOrder::kDense8: return 256;
    case PackedOrder::kGather4: return 192;
    case PackedOrder::kGather8: return 320;
    default: return 0;
  }
}

Arrangement arrangement_of(const WeightSpec& spec) {
  if (!spec.is_integer()) return {PackedOrder::kFloat};
  const auto path = std::ranges::find_if(kFastPaths, [&](const FastPath& row) {
    return row.format == spec.format && row.low <= spec.bits && spec.bits <= row.high;
  });
  if (path == kFastPaths.end()) return {PackedOrder::kRows};
  return spec.is_sparse() ? sparse_arrangement(spec, *path) : Arrangement{path->dense};
}

}  // namespace usmlite::codec
