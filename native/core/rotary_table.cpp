#include "core/rotary_table.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

namespace usmlite {

std::shared_ptr<const RotaryTable> rotary_table(float theta, int64_t head_dim, int64_t positions) {
  static std::mutex mutex;
  static auto* tables = new std::map<std::pair<float, int64_t>, std::shared_ptr<const RotaryTable>>;
  std::lock_guard lock(mutex);
  auto& slot = (*tables)[{theta, head_dim}];
  if (slot && slot->positions >= positions) return slot;

  auto table = std::make_shared<RotaryTable>();
  table->positions = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(positions, 512))));
  table->half = head_dim / 2;
  table->cosine.resize(table->positions * table->half);
  table->sine.resize(table->positions * table->half);
  for (int64_t i = 0; i < table->half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const float frequency = 1.0f / std::pow(theta, exponent);
    for (int64_t position = 0; position < table->positions; ++position) {
      const double angle = static_cast<float>(position) * frequency;
      table->cosine[position * table->half + i] = static_cast<float>(std::cos(angle));
      table->sine[position * table->half + i] = static_cast<float>(std::sin(angle));
    }
  }
  slot = std::move(table);
  return slot;
}

}  // namespace usmlite
