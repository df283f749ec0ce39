// What a linear layer does to the matrix product before it is stored, shared by all matrix-product kernels.
#pragma once

#include "core/dropout.hpp"

namespace usmlite::cpu {

/// kGelu is x times the normal distribution function of x. kGlu (packed products only) halves the channels: channel i is
/// multiplied by the sigmoid of channel i + n / 2.
enum class Activation { kNone, kRelu, kSilu, kGelu, kGlu };

/// c = residual_scale * residual + scale * dropout(activation(ab + bias)); with the defaults c = ab.
/// After kGlu, c and the residual have n / 2 columns.
/// `pre_activation` and `residual` are (m, n) with the leading dimension of c, and not c itself.
struct MatmulEpilogue {
  const float* bias = nullptr;  // (n)
  Activation activation = Activation::kNone;
  float* pre_activation = nullptr;   // receives ab + bias, which the backward pass of silu needs
  Dropout dropout;                   // element (row, column) has index row * n + column
  float scale = 1.0f;
  const float* residual = nullptr;
  float residual_scale = 1.0f;
};

}  // namespace usmlite::cpu
