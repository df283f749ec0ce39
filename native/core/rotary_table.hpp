// Cosines and sines of rotary position embeddings (Su et al. 2021), computed once per base and head size.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace usmlite {

/// Angles are position * theta^(-2i / head_dim), formed in float32 as the models we load were trained with.
struct RotaryTable {
  int64_t positions;
  int64_t half;             // head_dim / 2
  std::vector<float> cosine;  // (positions, half)
  std::vector<float> sine;    // (positions, half)
};

/// A table for at least `positions` positions; kept and shared by all later calls. Thread safe.
std::shared_ptr<const RotaryTable> rotary_table(float theta, int64_t head_dim, int64_t positions);

}  // namespace usmlite
