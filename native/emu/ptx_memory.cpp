#include "emu/ptx_memory.hpp"

#include <cstring>
#include <string>
#include <vector>

#include "emu/capability.hpp"
#include "emu/machine.hpp"
#include "emu/global_memory.hpp"

namespace usmlite::cuda::ptx {

using emu::machine;
using emu::SharedMemory;

namespace {

using emu::global_memory::Access;

template <typename T> T load(const T* address, Access access, const char* operation) {
  emu::global_memory::check(address, sizeof(T), sizeof(T), access, operation);
  return *address;
}

// ---- ldmatrix, stmatrix ----

struct MatrixOperands {
  uint32_t* registers;
  const void* row;
};

/// Reads `Matrices` 8x8 matrices of 16-bit values; lane 8 i + r gave row r of matrix i.
template <int Matrices, bool Transposed> void perform_load(int first_thread, void* const* operands) {
  emu::MemoryOrder& order = machine().order();
  const uint32_t clock = order.tick();
  const int warp = first_thread / 32;
  uint16_t values[Matrices][8][8];
  for (int lane = 0; lane < 8 * Matrices; ++lane) {
    const auto& given = *static_cast<const MatrixOperands*>(operands[lane]);
    SharedMemory& shared = machine().shared();
    shared.read_by_warp(first_thread + lane, warp, clock, shared.offset_of(given.row, 16, 16, "ldmatrix"), 16, "ldmatrix");
    std::memcpy(values[lane / 8][lane % 8], given.row, 16);
  }
  for (int lane = 0; lane < 32; ++lane) {
    order.learn(first_thread + lane, warp, clock);
    const int g = lane / 4, t = lane % 4;
    uint32_t* registers = static_cast<MatrixOperands*>(operands[lane])->registers;
    for (int i = 0; i < Matrices; ++i) {
      const uint16_t first = Transposed ? values[i][2 * t][g] : values[i][g][2 * t];
      const uint16_t second = Transposed ? values[i][2 * t + 1][g] : values[i][g][2 * t + 1];
      registers[i] = static_cast<uint32_t>(second) << 16 | first;
    }
  }
}

void perform_transposed_store(int first_thread, void* const* operands) {
  SharedMemory& shared = machine().shared();
  for (int lane = 0; lane < 32; ++lane) {
    const auto& given = *static_cast<const MatrixOperands*>(operands[lane]);
    const int matrix = lane / 8, row = lane % 8;
    uint16_t values[8];  // of row `row`: column g is held by lane 4 g + row / 2
    for (int g = 0; g < 8; ++g)
      values[g] = static_cast<uint16_t>(static_cast<const MatrixOperands*>(operands[4 * g + row / 2])->registers[matrix] >>
                                        16 * (row % 2));
    const uint32_t offset = shared.offset_of(given.row, 16, 16, "stmatrix");
    shared.write(first_thread + lane, offset, 16, "stmatrix");
    std::memcpy(shared.data() + offset, values, 16);
  }
}

struct ExchangeOperands {
  const void* value;
  void* result;
  int bytes, source;
};

void perform_exchange(int, void* const* operands) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const ExchangeOperands*>(operands[lane]);
    std::memcpy(own.result, static_cast<const ExchangeOperands*>(operands[own.source])->value, own.bytes);
  }
}

}  // namespace

uint32_t shared_address(const void* pointer) {
  return machine().shared().offset_of(pointer, 0, 1, "shared_address") + SharedMemory::kFirstAddress;
}

void previous_kernel_wait() { machine().wait_for_previous_kernel(); }
void block_sync() { machine().block_barrier(); }
void named_barrier_sync(int id, int threads) { machine().named_barrier(id, threads); }
void warp_sync() {
  machine().meet_warp("warp_sync", nullptr, [](int first_thread, void* const*) {
    std::vector<int> lanes(32);
    for (int lane = 0; lane < 32; ++lane) lanes[lane] = first_thread + lane;
    machine().order().synchronize(lanes);
  });
}
void exchange(const void* value, void* result, int bytes, int source) {
  ExchangeOperands operands{value, result, bytes, source};
  machine().meet_warp("shuffle", &operands, perform_exchange);
}

uint4 load_once(const uint4* address) { return load(address, Access::kRead, "load_once"); }
uint2 load_once(const uint2* address) { return load(address, Access::kRead, "load_once"); }
uint32_t load_once(const uint32_t* address) { return load(address, Access::kRead, "load_once"); }
int atomic_add(int* address, int value) {
  machine().note_spin();
  const int before = load(address, Access::kAtomic, "atomic_add");
  machine().global_order().add(address, machine().current().id);
  *address = static_cast<int>(static_cast<uint32_t>(before) + static_cast<uint32_t>(value));
  return before;
}
void atomic_add(float* address, float value) { *address = load(address, Access::kAtomic, "atomic_add") + value; }

void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  MatrixOperands operands{r, row};
  machine().meet_warp("load_matrix_x4", &operands, perform_load<4, false>);
}
void load_matrix_x2(uint32_t (&r)[2], const void* row) {
  MatrixOperands operands{r, row};
  machine().meet_warp("load_matrix_x2", &operands, perform_load<2, false>);
}
void load_matrix_transposed_x4(uint32_t (&r)[4], const void* row) {
  MatrixOperands operands{r, row};
  machine().meet_warp("load_matrix_transposed_x4", &operands, perform_load<4, true>);
}
void store_matrix_transposed_x4(void* row, const uint32_t (&r)[4]) {
  emu::need_hopper("store_matrix_transposed_x4");
  MatrixOperands operands{const_cast<uint32_t*>(r), row};
  machine().meet_warp("store_matrix_transposed_x4", &operands, perform_transposed_store);
}

}  // namespace usmlite::cuda::ptx
