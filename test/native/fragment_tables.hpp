// Which element of a matrix each thread of a warp holds in which register, copied out as tables from the PTX ISA 9.0,
// "Matrix fragments for mma.m16n8k16 / mma.m16n8k32 / mma.sp.m16n8k32 / mma.sp.m16n8k64". The registers of wgmma hold the
// same, warp w the rows from 16 w on.
//
// The tables are for lanes 0 to 3. Lane 4 g + t holds what lane t holds, but g rows further down (g columns further right
// in the right operand).
#pragma once
#include <cstdint>

namespace usmlite::check {

struct Place {
  int row, column;
};

/// a0..a7 of the left operand, 16-bit; two to a register, the first in the low half. Of a sparse left operand the columns
/// are those of the kept values.
inline constexpr Place kLeft16[4][8] = {
    {{0, 0}, {0, 1}, {8, 0}, {8, 1}, {0, 8}, {0, 9}, {8, 8}, {8, 9}},
    {{0, 2}, {0, 3}, {8, 2}, {8, 3}, {0, 10}, {0, 11}, {8, 10}, {8, 11}},
    {{0, 4}, {0, 5}, {8, 4}, {8, 5}, {0, 12}, {0, 13}, {8, 12}, {8, 13}},
    {{0, 6}, {0, 7}, {8, 6}, {8, 7}, {0, 14}, {0, 15}, {8, 14}, {8, 15}}};
/// a0..a15, 8-bit; four to a register.
inline constexpr Place kLeft8[4][16] = {
    {{0, 0}, {0, 1}, {0, 2}, {0, 3}, {8, 0}, {8, 1}, {8, 2}, {8, 3}, {0, 16}, {0, 17}, {0, 18}, {0, 19}, {8, 16}, {8, 17}, {8, 18}, {8, 19}},
    {{0, 4}, {0, 5}, {0, 6}, {0, 7}, {8, 4}, {8, 5}, {8, 6}, {8, 7}, {0, 20}, {0, 21}, {0, 22}, {0, 23}, {8, 20}, {8, 21}, {8, 22}, {8, 23}},
    {{0, 8}, {0, 9}, {0, 10}, {0, 11}, {8, 8}, {8, 9}, {8, 10}, {8, 11}, {0, 24}, {0, 25}, {0, 26}, {0, 27}, {8, 24}, {8, 25}, {8, 26}, {8, 27}},
    {{0, 12}, {0, 13}, {0, 14}, {0, 15}, {8, 12}, {8, 13}, {8, 14}, {8, 15}, {0, 28}, {0, 29}, {0, 30}, {0, 31}, {8, 28}, {8, 29}, {8, 30}, {8, 31}}};
/// Rows of b0.. of the right operand in column 0, 16-bit; dense k = 16: b0..b3, sparse k = 32: b0..b7.
inline constexpr int kRight16[4][8] = {
    {0, 1, 8, 9, 16, 17, 24, 25},
    {2, 3, 10, 11, 18, 19, 26, 27},
    {4, 5, 12, 13, 20, 21, 28, 29},
    {6, 7, 14, 15, 22, 23, 30, 31}};
/// 8-bit; dense k = 32: b0..b7, sparse k = 64: b0..b15.
inline constexpr int kRight8[4][16] = {
    {0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51},
    {4, 5, 6, 7, 20, 21, 22, 23, 36, 37, 38, 39, 52, 53, 54, 55},
    {8, 9, 10, 11, 24, 25, 26, 27, 40, 41, 42, 43, 56, 57, 58, 59},
    {12, 13, 14, 15, 28, 29, 30, 31, 44, 45, 46, 47, 60, 61, 62, 63}};
/// The accumulators c0..c3.
inline constexpr Place kSums[4][4] = {
    {{0, 0}, {0, 1}, {8, 0}, {8, 1}},
    {{0, 2}, {0, 3}, {8, 2}, {8, 3}},
    {{0, 4}, {0, 5}, {8, 4}, {8, 5}},
    {{0, 6}, {0, 7}, {8, 6}, {8, 7}}};

/// Where the positions of kept values lie in the metadata: from bit `shift` on, four bits for each group of four columns.
struct MetadataPlace {
  int lane, shift, row, first_column, columns;
};
/// 16-bit, k = 32, by selector.
inline constexpr MetadataPlace kMetadata16[2][4] = {
    {{0, 0, 0, 0, 16}, {0, 16, 8, 0, 16}, {1, 0, 0, 16, 16}, {1, 16, 8, 16, 16}},
    {{2, 0, 0, 0, 16}, {2, 16, 8, 0, 16}, {3, 0, 0, 16, 16}, {3, 16, 8, 16, 16}}};
/// 8-bit, k = 64.
inline constexpr MetadataPlace kMetadata8[4] = {{0, 0, 0, 0, 32}, {1, 0, 8, 0, 32}, {2, 0, 0, 32, 32}, {3, 0, 8, 32, 32}};

}  // namespace usmlite::check
