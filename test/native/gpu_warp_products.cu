// mma.sync and mma.sp against products of whole numbers, laid out by the tables of the PTX ISA.
#include "left_operand.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

constexpr int kColumns = 8;

template <typename T, bool Sparse, int Selector>
__global__ void product_kernel(const uint32_t* a, const uint32_t* b, const uint32_t* metadata, Sum<T>* d) {
  constexpr int kRight = Sparse ? 4 : 2;
  const int lane = ptx::lane_id();
  uint32_t left[4], right[kRight];
  Sum<T> sums[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) left[i] = a[4 * lane + i], sums[i] = d[4 * lane + i];
#pragma unroll
  for (int i = 0; i < kRight; ++i) right[i] = b[kRight * lane + i];
  if constexpr (std::is_same_v<T, Int8>) {
    if constexpr (Sparse) {
      ptx::mma_sparse_int8(sums, left, right, metadata[lane]);
    } else {
      ptx::mma_int8(sums, left, right);
    }
  } else if constexpr (Sparse) {
    ptx::mma_sparse<T, Selector>(sums, left, right, metadata[lane]);
  } else {
    ptx::mma<T>(sums, left, right);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = sums[i];
}

template <typename T, bool Sparse, int Selector> std::string check_product() {
  std::mt19937 random(7);
  constexpr int kPerWord = 4 / Encoding<T>::kBytes, kInputs = (Sparse ? 16 : 8) * kPerWord, kRight = Sparse ? 4 : 2;
  const int most = Encoding<T>::kMost;
  const LeftOperand left(random, 16, kInputs, Sparse, most);
  std::vector<int> right(kInputs * kColumns);
  for (int& value : right) value = random_between(random, -most, most);

  uint32_t a[32][4], metadata[32];
  left_registers<T>(left, 0, 0, a);
  // What the selector does not choose must not matter.
  for (uint32_t& word : metadata) word = Encoding<T>::kBytes == 2 ? 0x44444444u : 0u;
  if constexpr (Sparse) {
    for (int lane = 0; lane < 32; ++lane)
      if (Encoding<T>::kBytes == 1 || lane % 4 / 2 == Selector) metadata[lane] = 0;
    add_metadata<T>(left, 0, 0, Selector, metadata);
  }
  std::vector<uint32_t> b(32 * kRight);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < kRight * kPerWord; ++i) {
      const int row = Encoding<T>::kBytes == 2 ? kRight16[lane % 4][i] : kRight8[lane % 4][i];
      b[kRight * lane + i / kPerWord] |= Encoding<T>::bits(right[row * kColumns + lane / 4])
                                         << (32 / kPerWord * (i % kPerWord));
    }
  std::vector<Sum<T>> before(128), expected(128);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Place place = kSums[lane % 4][i];
      int sum = random_between(random, -1000, 1000);
      before[4 * lane + i] = static_cast<Sum<T>>(sum);
      for (int k = 0; k < kInputs; ++k)
        sum += left.values[(place.row + lane / 4) * kInputs + k] * right[k * kColumns + place.column];
      expected[4 * lane + i] = static_cast<Sum<T>>(sum);
    }
  const DeviceArray<uint32_t> device_a(std::vector<uint32_t>(&a[0][0], &a[0][0] + 128)), device_b(b),
      device_metadata(std::vector<uint32_t>(metadata, metadata + 32));
  const DeviceArray<Sum<T>> device_d(before);
  launch(product_kernel<T, Sparse, Selector>, {1, 1, 1, 32, 0}, nullptr, device_a.data(), device_b.data(),
         device_metadata.data(), device_d.data());
  return difference(device_d.values(), expected);
}

template <typename T> void check_type() {
  const std::string name = Encoding<T>::kName;
  report("mma " + name, check_product<T, false, 0>);
  report("mma.sp " + name + " selector 0", check_product<T, true, 0>);
  if constexpr (Encoding<T>::kBytes == 2) report("mma.sp " + name + " selector 1", check_product<T, true, 1>);
}

}  // namespace

void check_warp_products() {
  check_type<BFloat16>();
  check_type<Float16>();
  check_type<Float8E4M3>();
  check_type<Int8>();
}

}  // namespace usmlite::check
