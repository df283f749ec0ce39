// What all linear layers take among their arguments.
#pragma once
#include <string>

#include "cpu/matmul_epilogue.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

/// A finite factor of moderate size.
inline float factor_argument(const Arguments& arguments, size_t index, const char* name) {
  constexpr double kLargestFactor = 1e30;
  return static_cast<float>(arguments.number(index, name, -kLargestFactor, kLargestFactor));
}

inline cpu::Activation activation_argument(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "activation");
  if (name == "none") return cpu::Activation::kNone;
  if (name == "relu") return cpu::Activation::kRelu;
  if (name == "silu") return cpu::Activation::kSilu;
  arguments.fail("activation \"" + name + "\" is unknown; choose none, relu or silu");
}

/// Of packed products, which are for inference alone.
inline cpu::Activation packed_activation_argument(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "activation");
  if (name == "gelu") return cpu::Activation::kGelu;
  if (name == "glu") return cpu::Activation::kGlu;
  if (name == "none" || name == "relu" || name == "silu") return activation_argument(arguments, index);
  arguments.fail("activation \"" + name + "\" is unknown; choose none, relu, silu, gelu or glu");
}

}  // namespace usmlite::binding
