// What a tensor is, in numbers that JavaScript reads where they are written.
#pragma once
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "napi/arguments.hpp"

namespace usmlite::binding {

inline constexpr size_t kMostAxes = 8;

/// Writes `type`, `bytes`, the number of axes and their extents as float64 into the typed array at `index`.
inline void write_description(const Arguments& arguments, size_t index, int type, size_t bytes, const std::vector<int64_t>& shape) {
  if (shape.size() > kMostAxes) arguments.fail("shape " + shape_text(shape) + " has more than " + std::to_string(kMostAxes) + " axes");
  std::array<double, 3 + kMostAxes> numbers{static_cast<double>(type), static_cast<double>(bytes), static_cast<double>(shape.size())};
  std::copy(shape.begin(), shape.end(), numbers.begin() + 3);
  const auto room = arguments.bytes(index, "numbers");
  if (room.size != sizeof numbers) arguments.fail("numbers must be " + std::to_string(numbers.size()) + " of float64");
  std::memcpy(const_cast<uint8_t*>(room.data), numbers.data(), sizeof numbers);
}

}  // namespace usmlite::binding
