// Codes as they lie in weight_packed: one bit stream per row of a dense matrix, one through all rows of a sparse one;
// ternary codes five to a byte.
#pragma once
#include <cstdint>

#include "codec/weight_spec.hpp"

namespace usmlite::codec {

/// Where the codes of a (rows, columns) matrix are, and their stored values. Reading works from several threads at once.
class CodeStream {
 public:
  CodeStream(const WeightSpec& spec, int64_t rows, int64_t columns);

  int64_t bytes() const { return bytes_; }
  /// From the first code of a dense row to that of the next: whole 32-bit words, or bytes of ternary codes.
  int64_t row_bytes() const { return row_bytes_; }
  int64_t codes_per_row() const { return codes_per_row_; }
  /// Codes of rows that are written must come in order, into memory that is zero.
  void write(uint8_t* stream, int64_t row, int64_t index, uint32_t raw) const;
  /// The stored values of all codes of a row, as bytes where they have at most eight bits. Throws BAD_CHECKPOINT for a byte
  /// that is no five ternary codes.
  void read_row(const uint8_t* stream, int64_t row, uint32_t* raw) const;
  void read_row(const uint8_t* stream, int64_t row, uint8_t* raw) const;

 private:
  template <int kBits, typename Raw>
  void read_bits_of_row(const uint8_t* stream, int64_t position, Raw* raw) const;
  template <typename Raw>
  void read_trits(const uint8_t* stream, int64_t row, Raw* raw) const;
  template <typename Raw>
  void read(const uint8_t* stream, int64_t row, Raw* raw) const;
  int64_t first_code(int64_t row) const { return dense_ ? 0 : row * codes_per_row_; }

  int bits_;
  bool ternary_, dense_;
  int64_t codes_per_row_;
  int64_t row_bytes_;  // 0 when rows share bytes
  int64_t bytes_;
};

}  // namespace usmlite::codec
