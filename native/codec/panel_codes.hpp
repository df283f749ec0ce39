// The codes of one panel in every PackedOrder: how they are written when a matrix is made ready, and read slowly.
#pragma once
#include <cstdint>

#include "codec/packed_order.hpp"

namespace usmlite::codec {

/// Units of a dense panel one byte per code, (units, 16 channels, 4 inputs), as blocks of `order`.
void compress_dense(PackedOrder order, const uint8_t* units, int64_t unit_count, uint8_t* blocks);

/// One gathered block of four units: codes, one byte each, of which nibbles keep four bits, and places 0..3.
void compress_gathered(PackedOrder order, const uint8_t* codes, const uint8_t* places, uint8_t* block);

/// Fills gathered blocks with unused codes: `nothing`, and the last place, which lies beyond the row in formats whose code
/// `nothing` is not zero.
void clear_gathered(const Arrangement& arrangement, uint8_t nothing, int64_t bytes, uint8_t* blocks);

/// Puts the weights of one channel that are kept into such blocks. `mask` and `codes` have one entry per input up to the
/// end of the last window; nibbles or bytes as `arrangement` has it.
void write_gathered(const Arrangement& arrangement, int64_t channel, const uint8_t* codes, const uint8_t* mask,
                    int64_t windows, uint8_t* blocks);

/// The stored value (dense) or code (gathered; nibbles not extended) at place 0..63 of a unit of a panel.
uint32_t code_at(const Arrangement& arrangement, const uint8_t* blocks, int64_t unit, int64_t place);
/// The input at that place.
int64_t input_at(const Arrangement& arrangement, const uint8_t* blocks, int64_t unit, int64_t place);

}  // namespace usmlite::codec
