// Packed weights among the arguments of a binding.
#pragma once
#include "codec/pack.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

inline constexpr int64_t kMaximumRows = int64_t{1} << 20;
inline constexpr int64_t kMaximumColumns = int64_t{1} << 20;

/// Reads spec, rows, columns, packed, scale?, mask?, zeroPoint?, scaleSteps? from argument `first` on. Throws BAD_CHECKPOINT when they do not
/// fit together. The tensors must outlive the result.
codec::Unpacker packed_argument(const Arguments& arguments, size_t first);

/// The scales that a packed weight has when it is packed with these, (rows, scales per row): the same, or what their codes stand for where
/// `spec` quantizes them as well.
Tensor packed_scales(const codec::WeightSpec& spec, const Tensor& scales);

}  // namespace usmlite::binding
