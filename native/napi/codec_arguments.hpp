// Packed weights among the arguments of a binding.
#pragma once
#include "codec/pack.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

inline constexpr int64_t kMaximumRows = int64_t{1} << 20;
inline constexpr int64_t kMaximumColumns = int64_t{1} << 20;

/// Reads spec, rows, columns, packed, scale?, mask?, zeroPoint? from argument `first` on. Throws BAD_CHECKPOINT when they do not
/// fit together. The tensors must outlive the result.
codec::Unpacker packed_argument(const Arguments& arguments, size_t first);

}  // namespace usmlite::binding
