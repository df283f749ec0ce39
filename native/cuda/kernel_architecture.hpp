// Which GPU's kernels multiply: normally those for the GPU at hand.
#pragma once

namespace usmlite::cuda {

/// The compute capability (90 for 9.0) whose kernels multiply: the GPU's, or the limit where that is lower. The limit is 80, 89
/// or 90, at first the environment's USMLITE_CUDA_ARCHITECTURE: kernels for older GPUs run on newer ones, where they can be tested
/// and measured. Throws NO_GPU, DRIVER_TOO_OLD, or INVALID_ARGUMENT for another value there.
int kernel_architecture();
/// 0 for none. For all threads, from their next product on.
void limit_kernel_architecture(int limit);

}  // namespace usmlite::cuda
