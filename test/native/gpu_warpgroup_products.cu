// wgmma, dense from registers and from shared memory (K-major, and of 16-bit values MN-major), and sparse, against products of whole numbers,
// laid out by the tables of the PTX ISA. Two steps each: the first overwrites the accumulators, the second adds, from further along the same
// rows, or from further rows.
#include "left_operand.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

constexpr int kThreads = 128, kRows = 64, kRowBytes = 128, kSteps = 2;

enum class Form { kRegisters, kShared, kSparse };

/// Of 64 rows or columns of MN-major operands: more than the inputs of both steps take, so that blocks lie apart.
constexpr int kBlockBytes = 64 * kRowBytes;
/// Whichever order it has.
template <int N> constexpr int kRightBytes = N < 64 ? kBlockBytes : N / 64 * kBlockBytes;

/// `left`: four words per thread and step, or the tile; `right`: the tile.
template <typename T, int N, Form F, bool kLeftTransposed, bool kRightTransposed> __global__ void __launch_bounds__(kThreads)
    product_kernel(const uint32_t* left, const uint32_t* metadata, const uint4* right, Sum<T>* d) {
#if USMLITE_SM90A
  const int thread = static_cast<int>(threadIdx.x);
  unsigned char* const right_tile = shared_memory();
  unsigned char* const left_tile = right_tile + kRightBytes<N>;
  for (int i = thread; i < kRightBytes<N> / 16; i += kThreads) reinterpret_cast<uint4*>(right_tile)[i] = right[i];
  if (F == Form::kShared)
    for (int i = thread; i < kRows * kRowBytes / 4; i += kThreads) reinterpret_cast<uint32_t*>(left_tile)[i] = left[i];
  ptx::async_proxy_fence();
  ptx::block_sync();
  Sum<T> sums[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) sums[i] = static_cast<Sum<T>>(777);  // must be overwritten
  uint32_t a[kSteps][4];
  if (F != Form::kShared) {
#pragma unroll
    for (int i = 0; i < kSteps * 4; ++i) a[i / 4][i % 4] = left[(i / 4 * kThreads + thread) * 4 + i % 4];
  }
  const uint32_t positions[kSteps] = {metadata[thread], metadata[kThreads + thread]};
  const auto descriptor = [](const unsigned char* tile, bool transposed) {
    return transposed ? ptx::transposed_descriptor(tile, kBlockBytes) : ptx::swizzled_descriptor(tile);
  };
  const auto next_step = [](bool transposed) { return transposed ? 16 * kRowBytes / 16 : 32 / 16; };
  const uint64_t b = descriptor(right_tile, kRightTransposed);
#pragma unroll
  for (int i = 0; i < N / 2; ++i) ptx::wgmma_touch(sums[i]);
  ptx::wgmma_fence();
  using Product = ptx::Wgmma<T, N>;
  if constexpr (F == Form::kRegisters) {
    Product::dense(sums, a[0], b, false);
    Product::dense(sums, a[1], b + 32 / 16, true);
  } else if constexpr (F == Form::kShared) {
    const uint64_t from = descriptor(left_tile, kLeftTransposed);
    Product::template dense<kLeftTransposed, kRightTransposed>(sums, from, b, false);
    Product::template dense<kLeftTransposed, kRightTransposed>(sums, from + next_step(kLeftTransposed), b + next_step(kRightTransposed), true);
  } else {
    Product::template sparse<0>(sums, a[0], b, positions[0], false);
    Product::template sparse<Encoding<T>::kBytes == 2>(sums, a[1], b + 64 / 16, positions[1], true);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    ptx::wgmma_touch(sums[i]);
    d[thread * (N / 2) + i] = sums[i];
  }
#endif
}

/// Rows of bytes as they lie in shared memory: the 16 bytes at place c of row r are at place c ^ (r % 8).
template <typename T> std::vector<uint32_t> swizzled_tile(const std::vector<int>& values, int rows, int inputs) {
  std::vector<unsigned char> bytes(static_cast<size_t>(rows) * kRowBytes);
  for (int row = 0; row < rows; ++row)
    for (int k = 0; k < inputs; ++k) {
      const int column = k * Encoding<T>::kBytes;
      const uint32_t bits = Encoding<T>::bits(values[static_cast<size_t>(row) * inputs + k]);
      for (int byte = 0; byte < Encoding<T>::kBytes; ++byte)
        bytes[row * kRowBytes + (column / 16 ^ row % 8) * 16 + column % 16 + byte] =
            static_cast<unsigned char>(bits >> 8 * byte);
    }
  std::vector<uint32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

/// The same values as MN-major tiles: 64 rows (of the left operand, or columns of the right one) in the 128 bytes of an input, the next 64
/// kBlockBytes further on.
template <typename T> std::vector<uint32_t> transposed_tile(const std::vector<int>& values, int rows, int inputs) {
  std::vector<unsigned char> bytes(static_cast<size_t>((rows + 63) / 64) * kBlockBytes);
  for (int row = 0; row < rows; ++row)
    for (int k = 0; k < inputs; ++k) {
      const uint32_t bits = Encoding<T>::bits(values[static_cast<size_t>(row) * inputs + k]);
      const int place = row / 64 * kBlockBytes + k * kRowBytes + (row % 64 / 8 ^ k % 8) * 16 + row % 8 * 2;
      for (int byte = 0; byte < 2; ++byte) bytes[place + byte] = static_cast<unsigned char>(bits >> 8 * byte);
    }
  std::vector<uint32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

template <typename T, int N, Form F, bool kLeftTransposed = false, bool kRightTransposed = false> std::string check_product() {
  std::mt19937 random(11);
  constexpr int kStored = 32 / Encoding<T>::kBytes, kStep = F == Form::kSparse ? 2 * kStored : kStored,
                kInputs = kSteps * kStep;
  const int most = Encoding<T>::kMost;
  const LeftOperand left(random, kRows, kInputs, F == Form::kSparse, most);
  std::vector<int> right(static_cast<size_t>(N) * kInputs);  // (columns, inputs)
  for (int& value : right) value = random_between(random, -most, most);

  std::vector<uint32_t> left_words, metadata(kSteps * kThreads);
  if (F == Form::kShared) {
    left_words = kLeftTransposed ? transposed_tile<T>(left.values, kRows, kInputs) : swizzled_tile<T>(left.values, kRows, kInputs);
  } else {
    for (int step = 0; step < kSteps; ++step)
      for (int warp = 0; warp < 4; ++warp) {
        uint32_t a[32][4];
        left_registers<T>(left, 16 * warp, step * kStored, a);
        left_words.insert(left_words.end(), &a[0][0], &a[0][0] + 128);
        if (F == Form::kSparse)
          add_metadata<T>(left, 16 * warp, step * kStep, Encoding<T>::kBytes == 2 ? step : 0,
                          &metadata[step * kThreads + 32 * warp]);
      }
  }
  std::vector<uint32_t> right_words = kRightTransposed ? transposed_tile<T>(right, N, kInputs) : swizzled_tile<T>(right, N, kInputs);
  right_words.resize(kRightBytes<N> / 4);
  std::vector<uint4> right_pieces(right_words.size() / 4);
  std::memcpy(right_pieces.data(), right_words.data(), right_words.size() * 4);

  std::vector<Sum<T>> expected(kThreads * (N / 2));
  for (int thread = 0; thread < kThreads; ++thread)
    for (int i = 0; i < N / 2; ++i) {
      const Place place = kSums[thread % 4][i % 4];
      const int row = thread / 32 * 16 + thread % 32 / 4 + place.row, column = 8 * (i / 4) + place.column;
      int sum = 0;
      for (int k = 0; k < kInputs; ++k)
        sum += left.values[static_cast<size_t>(row) * kInputs + k] * right[static_cast<size_t>(column) * kInputs + k];
      expected[thread * (N / 2) + i] = static_cast<Sum<T>>(sum);
    }
  const DeviceArray<uint32_t> device_left(left_words), device_metadata(metadata);
  const DeviceArray<uint4> device_right(right_pieces);
  const DeviceArray<Sum<T>> device_d(std::vector<Sum<T>>(expected.size()));
  launch(product_kernel<T, N, F, kLeftTransposed, kRightTransposed>, {1, 1, 1, kThreads, kRightBytes<N> + kRows * kRowBytes}, nullptr, device_left.data(),
         device_metadata.data(), device_right.data(), device_d.data());
  return difference(device_d.values(), expected);
}

template <typename T, int N> void check_width() {
  const std::string name = std::string(Encoding<T>::kName) + " n" + std::to_string(N);
  report("wgmma " + name + " from registers", check_product<T, N, Form::kRegisters>);
  report("wgmma " + name + " from shared memory", check_product<T, N, Form::kShared>);
  report("wgmma.sp " + name, check_product<T, N, Form::kSparse>);
  if constexpr (Encoding<T>::kBytes == 2) {
    report("wgmma " + name + ", left transposed", check_product<T, N, Form::kShared, true, false>);
    report("wgmma " + name + ", right transposed", check_product<T, N, Form::kShared, false, true>);
    report("wgmma " + name + ", both transposed", check_product<T, N, Form::kShared, true, true>);
  }
}

template <typename T> void check_type() {
  check_width<T, 16>();
  check_width<T, 32>();
  check_width<T, 64>();
  check_width<T, 128>();
  check_width<T, 256>();
}

}  // namespace

void check_warpgroup_products() {
  check_type<BFloat16>();
  check_type<Float16>();
  check_type<Float8E4M3>();
  check_type<Int8>();
}

}  // namespace usmlite::check
