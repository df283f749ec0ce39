// Wrong tensor-core products, and launches that no GPU takes.
#include "cuda/tensor_map.hpp"
#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

__global__ void unordered_metadata(uint32_t* to) {
  float d[4] = {};
  const uint32_t a[4] = {}, b[4] = {};
  ptx::mma_sparse<BFloat16, 0>(d, a, b, 0x44444442u);
  to[self()] = ptx::bits_of(d[0]);
}

/// A function of its own: within the one that has the sums, Clang reports no access to them.
[[gnu::noinline]] __device__ void touch(float& sum) { sum += 1.0f; }

enum class Wgmma { kRight, kNoFence, kNoProxyFence, kTouched, kOverwritten, kDifferent, kNoWait, kPastRow, kWrongOrder };
template <Wgmma Mistake> __global__ void warpgroup_product(uint32_t* to) {
  for (int i = self(); i < 512; i += 128) words()[i] = 0;
  if (Mistake != Wgmma::kNoProxyFence) ptx::async_proxy_fence();
  ptx::block_sync();
  float d[8] = {};
  const uint32_t a[4] = {};
  uint64_t b = ptx::swizzled_descriptor(shared_memory());
  if (Mistake == Wgmma::kDifferent && self() == 100) b += 2;
  if (Mistake == Wgmma::kPastRow) b += 7;
  if (Mistake != Wgmma::kNoFence) ptx::wgmma_fence();
  if (Mistake == Wgmma::kWrongOrder) ptx::Wgmma<BFloat16, 16>::dense<false, true>(d, b, b, false);
  else ptx::Wgmma<BFloat16, 16>::dense(d, a, b, false);
  ptx::wgmma_commit();
  if (Mistake == Wgmma::kTouched) touch(d[3]);
  if (Mistake == Wgmma::kOverwritten && self() == 0) words()[0] = 1;
  if (Mistake != Wgmma::kNoWait) ptx::wgmma_wait<0>();
  const uint32_t first = Mistake == Wgmma::kNoWait ? 0 : ptx::bits_of(d[0]);
  if (self() < 64) to[self()] = first;
}

__global__ void nothing(uint32_t*) {}

}  // namespace

void attempt_misuse_of_products() {
  attempt_kernel("unordered metadata", unordered_metadata, 32);
  attempt_kernel("wgmma right", warpgroup_product<Wgmma::kRight>, 128);
  attempt_kernel("wgmma without fence", warpgroup_product<Wgmma::kNoFence>, 128);
  attempt_kernel("wgmma without proxy fence", warpgroup_product<Wgmma::kNoProxyFence>, 128);
  attempt_kernel("wgmma accumulator touched", warpgroup_product<Wgmma::kTouched>, 128);
  attempt_kernel("wgmma tile overwritten", warpgroup_product<Wgmma::kOverwritten>, 128);
  attempt_kernel("wgmma different", warpgroup_product<Wgmma::kDifferent>, 128);
  attempt_kernel("wgmma without wait", warpgroup_product<Wgmma::kNoWait>, 128);
  attempt_kernel("wgmma past row", warpgroup_product<Wgmma::kPastRow>, 128);
  attempt_kernel("wgmma of another order", warpgroup_product<Wgmma::kWrongOrder>, 128);
  attempt_kernel("wgmma without warpgroup", warpgroup_product<Wgmma::kRight>, 96);

  attempt_kernel("broken warp", nothing, 40);
  attempt_kernel("too many threads", nothing, 1056);
  attempt_kernel("no blocks", nothing, 32, 0);
  attempt_kernel("broken cluster", nothing, 32, 3, 2);
  attempt("too much shared memory", [] { launch(nothing, {1, 1, 1, 32, 256 * 1024}, nullptr, nullptr); });
  attempt("tensor map of odd stride", [] { make_tensor_map(nullptr, 2, 16, 64, 68, 8, 64); });
  attempt("tensor map of wide box", [] { make_tensor_map(nullptr, 2, 16, 64, 64, 8, 128); });
}

}  // namespace usmlite::check
