// mbarriers, bulk and tensor copies, clusters, and the exchange of registers between warpgroups.
#include "cuda/tensor_map.hpp"
#include "device_check.hpp"

namespace usmlite::check {

namespace {

using namespace cuda;

constexpr int kRowBytes = 128, kBoxRows = 24, kBoxBytes = kBoxRows * kRowBytes;

/// A ring of two stages that one thread fills and two warps empty, for more rounds than there are parities.
constexpr int kStages = 2, kRounds = 7, kPieceBytes = 256;
__global__ void ring_kernel(const uint32_t* from, uint32_t* to) {
#if USMLITE_SM90A
  unsigned char* const shared = shared_memory();
  uint64_t* const full = reinterpret_cast<uint64_t*>(shared + kStages * kPieceBytes);
  uint64_t* const empty = full + kStages;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::barrier_init(full + stage, 1);
      ptx::barrier_init(empty + stage, 64);
    }
    ptx::barrier_init_fence();
  }
  ptx::block_sync();
  if (thread >= 64) {
    if (thread != 64) return;
    for (int round = 0; round < kRounds; ++round) {
      const int stage = round % kStages;
      ptx::barrier_wait(empty + stage, round / kStages % 2 ^ 1);  // the first passes at once
      ptx::barrier_arrive_expect(full + stage, kPieceBytes);
      // In two parts, of which the barrier knows only the sum.
      ptx::bulk_copy(shared + stage * kPieceBytes, from + round * kPieceBytes / 4, 64, full + stage);
      ptx::bulk_copy(shared + stage * kPieceBytes + 64, from + round * kPieceBytes / 4 + 16, kPieceBytes - 64, full + stage);
    }
    return;
  }
  for (int round = 0; round < kRounds; ++round) {
    const int stage = round % kStages;
    ptx::barrier_wait(full + stage, round / kStages % 2);
    to[round * 64 + thread] = reinterpret_cast<const uint32_t*>(shared + stage * kPieceBytes)[63 - thread];
    ptx::barrier_arrive(empty + stage);
  }
#endif
}
std::string check_ring() {
  std::vector<uint32_t> from(kRounds * 64), expected(from.size());
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint32_t>(i * 2654435761u);
  for (size_t i = 0; i < from.size(); ++i) expected[i] = from[i / 64 * 64 + 63 - i % 64];
  const DeviceArray<uint32_t> source(from), to{std::vector<uint32_t>(from.size())};
  launch(ring_kernel, {1, 1, 1, 96, kStages * kPieceBytes + 2 * kStages * 8}, nullptr, source.data(), to.data());
  return difference(to.values(), expected);
}

/// Blocks of a cluster fetch a half of the box's rows each, for all of them. A cluster of one fetches it whole.
template <int Cluster> __global__ void tensor_kernel(const __grid_constant__ TensorMap map, int column, int row, uint4* to) {
#if USMLITE_SM90A
  unsigned char* const tile = shared_memory();
  uint64_t* const full = reinterpret_cast<uint64_t*>(tile + kBoxBytes * Cluster);
  uint64_t* const both_done = full + 1;
  const int thread = static_cast<int>(threadIdx.x), rank = Cluster == 1 ? 0 : ptx::cluster_rank();
  if (thread == 0) {
    ptx::prefetch_tensor_map(&map);
    ptx::barrier_init(full, 1);
    ptx::barrier_init(both_done, 2 * Cluster);
    ptx::barrier_init_fence();
  }
  if (Cluster == 1) {
    ptx::block_sync();
  } else {
    ptx::cluster_sync();
  }
  if (thread == 0) {
    ptx::barrier_arrive_expect(full, kBoxBytes * Cluster);
    if constexpr (Cluster == 1) {
      ptx::tensor_copy(tile, &map, column, row, full);
    } else {
      ptx::tensor_copy_multicast(tile + rank * kBoxBytes, &map, column, row + rank * kBoxRows, full, (1 << Cluster) - 1);
    }
  }
  ptx::barrier_wait(full, 0);
  for (int i = thread; i < kBoxBytes * Cluster / 16; i += 64)
    to[rank * kBoxBytes * Cluster / 16 + i] = reinterpret_cast<const uint4*>(tile)[i];
  // Nobody leaves before all have arrived here: the barrier of every block hears of one thread of each warp of each.
  ptx::warp_sync();
  if constexpr (Cluster > 1) {
    if (ptx::lane_id() == 0)
      for (int other = 0; other < Cluster; ++other) ptx::barrier_arrive_cluster(both_done, other);
    ptx::barrier_wait(both_done, 0);
    ptx::cluster_sync();
  }
#endif
}
template <int Cluster, int ElementBytes> std::string check_tensor_copy(int byte_column, int row) {
  constexpr int kRows = 61, kColumnBytes = 208, kStrideBytes = 224, kRowCount = kBoxRows * Cluster;
  std::vector<uint8_t> matrix(kRows * kStrideBytes), expected(Cluster * kRowCount * kRowBytes);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<uint8_t>(1 + i % 251);
  for (int rank = 0; rank < Cluster; ++rank)
    for (int r = 0; r < kRowCount; ++r)
      for (int c = 0; c < kRowBytes; ++c) {
        const int from_row = row + r, from_column = byte_column + c;
        const bool inside = from_row >= 0 && from_row < kRows && from_column >= 0 && from_column < kColumnBytes;
        expected[(rank * kRowCount + r) * kRowBytes + (c / 16 ^ r % 8) * 16 + c % 16] =
            inside ? matrix[from_row * kStrideBytes + from_column] : 0;
      }
  const DeviceArray<uint8_t> source(matrix), to(std::vector<uint8_t>(expected.size(), 0xee));
  const TensorMap map = make_tensor_map(source.data(), ElementBytes, kRows, kColumnBytes / ElementBytes,
                                        kStrideBytes / ElementBytes, kBoxRows, kRowBytes / ElementBytes);
  launch(tensor_kernel<Cluster>, {Cluster, 1, 1, 64, kBoxBytes * Cluster + 16, Cluster}, nullptr, map,
         byte_column / ElementBytes, row, reinterpret_cast<uint4*>(to.data()));
  return difference(to.values(), expected);
}
/// Inside, across each edge, outside.
template <int Cluster, int ElementBytes> void check_tensor_copies(const std::string& name) {
  constexpr int kPlaces[][2] = {{0, 0}, {32, 7}, {128, 40}, {-16, -3}, {304, 5}, {0, 70}};  // byte column, row
  for (const auto& place : kPlaces)
    report("tensor copy, " + name + ", at byte " + std::to_string(place[0]) + " of row " + std::to_string(place[1]),
           [&] { return check_tensor_copy<Cluster, ElementBytes>(place[0], place[1]); });
}

/// Each of two blocks copies a half of a row of words to both.
__global__ void multicast_kernel(const uint32_t* from, uint32_t* to) {
#if USMLITE_SM90A
  constexpr uint32_t kHalf = kPieceBytes / 2;
  unsigned char* const piece = shared_memory();
  uint64_t* const full = reinterpret_cast<uint64_t*>(piece + kPieceBytes);
  const int thread = static_cast<int>(threadIdx.x), rank = ptx::cluster_rank();
  if (thread == 0) {
    ptx::barrier_init(full, 1);
    ptx::barrier_init_fence();
  }
  ptx::cluster_sync();
  if (thread == 0) {
    ptx::barrier_arrive_expect(full, kPieceBytes);
    ptx::bulk_copy_multicast(piece + rank * kHalf, from + rank * kHalf / 4, kHalf, full, 3);
  }
  ptx::barrier_wait(full, 0);
  to[rank * 64 + thread] = reinterpret_cast<const uint32_t*>(piece)[thread] + static_cast<uint32_t>(rank);
  ptx::cluster_sync();
#endif
}
std::string check_multicast() {
  std::vector<uint32_t> from(64), expected(128);
  for (uint32_t i = 0; i < 64; ++i) {
    from[i] = i * 2654435761u;
    expected[i] = from[i];
    expected[64 + i] = from[i] + 1;
  }
  const DeviceArray<uint32_t> source(from), to{std::vector<uint32_t>(128)};
  launch(multicast_kernel, {2, 1, 1, 64, kPieceBytes + 8, 2}, nullptr, source.data(), to.data());
  return difference(to.values(), expected);
}

/// One warpgroup gives registers up so that two others may have more.
__global__ void __launch_bounds__(384, 1) registers_kernel(const float* from, float* to) {
#if USMLITE_SM90A
  const int warpgroup = ptx::warp_id() / 4, thread = static_cast<int>(threadIdx.x);
  if (warpgroup == 0) {
    ptx::registers_release<40>();
    to[thread] = from[thread];
    return;
  }
  ptx::registers_acquire<232>();
  float values[192];
#pragma unroll
  for (int i = 0; i < 192; ++i) values[i] = from[thread + i];
  for (int round = 0; round < 3; ++round) {
#pragma unroll
    for (int i = 0; i < 192; ++i) values[i] = values[i] * 0.5f + values[(i + 1) % 192];
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 192; ++i) sum += values[i];
  to[thread] = sum;
#endif
}
std::string check_registers() {
  std::vector<float> from(384 + 192), expected(384);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i * 37 % 64);
  for (int thread = 0; thread < 384; ++thread) {
    expected[thread] = from[thread];
    if (thread < 128) continue;
    std::vector<float> values(from.begin() + thread, from.begin() + thread + 192);
    for (int round = 0; round < 3; ++round)
      for (int i = 0; i < 192; ++i) values[i] = values[i] * 0.5f + values[(i + 1) % 192];
    expected[thread] = 0.0f;
    for (const float value : values) expected[thread] += value;  // whole eighths: exact in any order
  }
  const DeviceArray<float> source(from), to(std::vector<float>(384));
  launch(registers_kernel, {1, 1, 1, 384, 0}, nullptr, source.data(), to.data());
  return difference(to.values(), expected);
}

}  // namespace

void check_copy_engine() {
  report("mbarrier ring of bulk copies", check_ring);
  report("bulk copy, multicast in a cluster of 2", check_multicast);
  check_tensor_copies<1, 2>("2-byte elements");
  check_tensor_copies<1, 1>("1-byte elements");
  check_tensor_copies<2, 2>("multicast in a cluster of 2");
  report("setmaxnreg", check_registers);
}

}  // namespace usmlite::check
