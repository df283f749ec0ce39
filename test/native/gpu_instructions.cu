// Whether the instructions behind cuda/ptx.cuh do what they are described to do: on the GPU, or on the emulated one.
#include "device_check.hpp"

int main() {
  using namespace usmlite::check;
  check_number_instructions();
  check_memory_instructions();
  check_warp_products();
  check_copy_engine();
  check_warpgroup_products();
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
