#include "emu/capability.hpp"

#include <cstdlib>
#include <string>

#include "core/error.hpp"
#include "emu/machine.hpp"

namespace usmlite::emu {
namespace {

constexpr Capability kKnown[] = {{80, 163 * 1024}, {86, 99 * 1024}, {89, 99 * 1024}, {90, 227 * 1024}, {100, 227 * 1024}, {120, 99 * 1024}};

std::string name_of(int number) { return std::to_string(number / 10) + "." + std::to_string(number % 10); }

const Capability& chosen() {
  const char* text = std::getenv("USMLITE_EMULATED_CAPABILITY");
  const std::string wanted = text && *text ? text : "9.0";
  for (const Capability& known : kKnown) {
    if (name_of(known.number) == wanted) return known;
  }
  throw Error(error_code::kInvalidArgument, "USMLITE_EMULATED_CAPABILITY is \"" + wanted + "\"; it must be 8.0, 8.6, 8.9, 9.0, 10.0 or 12.0");
}

}  // namespace

const Capability& capability() {
  static const Capability& found = chosen();
  return found;
}

void need_hopper(const char* operation) {
  if (capability().number != 90)
    machine().fail(std::string(operation) + " is an instruction of sm_90a, and this GPU has compute capability " + name_of(capability().number));
}

}  // namespace usmlite::emu
