// Launching kernels: on the GPU through the CUDA runtime, or on the emulator, where a launch is over when it returns.
#pragma once
#include <cstddef>
#include <source_location>
#include <type_traits>

#include "cuda/kernel_language.cuh"
#include "cuda/runtime.hpp"

#ifndef __CUDACC__
#include <tuple>

#include "emu/recorded_launches.hpp"
#endif

namespace usmlite::cuda {

struct LaunchShape {
  unsigned grid_x, grid_y, grid_z;
  unsigned threads;                // of a block: whole warps
  size_t shared_bytes;             // of a block
  unsigned cluster_x = 1;          // blocks next to each other in x that run together (sm_90)
  bool overlaps_previous = false;  // may begin before the kernel before it has ended, up to previous_kernel_wait (sm_90)
  std::source_location where = std::source_location::current();  // names the kernel in messages
};

/// Whether kernels that call take_turn may be launched with `overlaps_previous`.
inline bool kernels_take_turns() { return gpu_properties().compute_capability / 10 == 9; }

#ifdef __CUDACC__

/// Throws GPU_FAILED when the driver refuses.
void launch_on_device(const void* kernel, const LaunchShape& shape, StreamHandle stream, void** arguments);

/// Gives a kernel to the stream. Throws GPU_FAILED.
template <typename... P>
void launch(void (*kernel)(P...), const LaunchShape& shape, StreamHandle stream, std::type_identity_t<std::remove_cv_t<P>>... arguments) {
  void* pointers[] = {&arguments..., nullptr};
  launch_on_device(reinterpret_cast<const void*>(kernel), shape, stream, pointers);
}

#else

/// Runs a kernel. Throws GPU_FAILED with what the emulator found wrong.
template <typename... P>
void launch(void (*kernel)(P...), const LaunchShape& shape, StreamHandle, std::type_identity_t<std::remove_cv_t<P>>... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<std::remove_cv_t<P>...> values;
  };
  emu::perform([call = Call{kernel, {arguments...}}, shape] {
    emu::run_grid({shape.where.function_name(), {shape.grid_x, shape.grid_y, shape.grid_z}, shape.cluster_x, shape.threads,
                   shape.shared_bytes, shape.overlaps_previous,
                   [](const void* memory) {
                     const Call& of = *static_cast<const Call*>(memory);
                     std::apply([&of](const auto&... value) { of.kernel(value...); }, of.values);
                   },
                   &call});
  });
}

#endif

}  // namespace usmlite::cuda
