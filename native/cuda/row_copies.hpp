// Rows of a matrix that indices name, and its gradient: embeddings of tokens and positions.
#pragma once
#include <vector>

#include "cuda/device_matrix.hpp"
#include "cuda/packed_sequences.hpp"

namespace usmlite::cuda {

/// y (indices, columns) bfloat16 = the rows `indices` of x, which is bfloat16, or float32 and then rounded.
void gather_rows(const DeviceMatrix& x, const std::vector<int32_t>& indices, const DeviceMatrix& y, const Stream& stream);

/// sum (rows, columns) float32: row indices[i] += row i of x (indices, columns) bfloat16, for one i after the other: the same bits every time.
void add_rows(const DeviceMatrix& x, const std::vector<int32_t>& indices, const DeviceMatrix& sum, const Stream& stream);

/// The kernels. `indices`: one sequence of rows.
void gather_rows(const DeviceMatrix& x, const PackedSequences& indices, const DeviceMatrix& y, const Stream& stream);
/// `places`: for each row that is named, the rows of x that are added to it.
void add_rows(const DeviceMatrix& x, const PackedSequences& indices, const PackedSequences& places, const DeviceMatrix& sum,
              const Stream& stream);

}  // namespace usmlite::cuda
