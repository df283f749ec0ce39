// A left operand of whole numbers, dense or 2:4 sparse, and the registers that threads hold it in, by the tables.
#pragma once
#include "device_check.hpp"
#include "fragment_tables.hpp"

namespace usmlite::check {

/// `rows` (a multiple of 16) of `inputs` values.
struct LeftOperand {
  int rows, inputs;
  std::vector<int> values;     // (rows, inputs), zeros included
  std::vector<int> kept;       // (rows, inputs or half of them)
  std::vector<int> positions;  // (rows, inputs / 2) of kept values, when sparse

  LeftOperand(std::mt19937& random, int row_count, int input_count, bool sparse, int most)
      : rows(row_count), inputs(input_count), values(static_cast<size_t>(rows) * inputs) {
    for (int row = 0; row < rows; ++row)
      for (int group = 0; group < inputs / 4; ++group) {
        bool keep[4] = {true, true, true, true};
        if (sparse) {
          const int first = random_between(random, 0, 3), second = (first + random_between(random, 1, 3)) % 4;
          for (int i = 0; i < 4; ++i) keep[i] = i == first || i == second;
        }
        for (int i = 0; i < 4; ++i) {
          if (!keep[i]) continue;
          const int input = 4 * group + i;
          values[static_cast<size_t>(row) * inputs + input] = random_between(random, -most, most);
          kept.push_back(values[static_cast<size_t>(row) * inputs + input]);
          if (sparse) positions.push_back(i);
        }
      }
  }
  int stored() const { return static_cast<int>(kept.size()) / rows; }
};

/// The four registers of each lane for the 16 rows from `first_row` on and the step from stored column `first` on.
template <typename T> void left_registers(const LeftOperand& left, int first_row, int first, uint32_t (*registers)[4]) {
  constexpr int kPerWord = 4 / Encoding<T>::kBytes;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4 * kPerWord; ++i) {
      Place place;
      if constexpr (Encoding<T>::kBytes == 2) {
        place = kLeft16[lane % 4][i];
      } else {
        place = kLeft8[lane % 4][i];
      }
      if (i % kPerWord == 0) registers[lane][i / kPerWord] = 0;
      const int value = left.kept[static_cast<size_t>(first_row + place.row + lane / 4) * left.stored() + first + place.column];
      registers[lane][i / kPerWord] |= Encoding<T>::bits(value) << (32 / kPerWord * (i % kPerWord));
    }
}

/// Adds the metadata of the step from input `first` on to the words of the lanes.
template <typename T> void add_metadata(const LeftOperand& left, int first_row, int first, int selector, uint32_t* words) {
  const MetadataPlace* const places = Encoding<T>::kBytes == 2 ? kMetadata16[selector] : kMetadata8;
  for (int g = 0; g < 8; ++g)
    for (int p = 0; p < 4; ++p) {
      const MetadataPlace& place = places[p];
      for (int pair = 0; pair < place.columns / 2; ++pair) {
        const size_t kept =
            static_cast<size_t>(first_row + place.row + g) * left.stored() + (first + place.first_column) / 2 + pair;
        words[4 * g + place.lane] |= static_cast<uint32_t>(left.positions[kept]) << (place.shift + 2 * pair);
      }
    }
}

}  // namespace usmlite::check
