#include "emu/warpgroup_product.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "emu/capability.hpp"
#include "emu/machine.hpp"
#include "emu/ptx_wgmma.hpp"

namespace usmlite::emu {

namespace {

constexpr int kLeftRows = 64;

/// Of one thread.
size_t accumulator_bytes(const ProductShape& shape) { return shape.columns / 2 * sizeof(float); }

/// An operand in shared memory: the fields that are used here of its descriptor (PTX ISA, "Matrix descriptor"), and its order.
struct Tile {
  Tile(uint64_t bits, bool transposed)
      : address(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
        base_offset(bits >> 49 & 7),
        swizzle(static_cast<int>(bits >> 62)),
        transposed(transposed) {}

  /// Where the 16 bytes are, as an offset in shared memory, that begin at byte `column` of a line: of k values of a row of the left operand or
  /// a column of the right one (K-major), or of values of all rows or columns for one k (MN-major), of which 128 bytes lie together. Lines
  /// are 128 bytes apart, eight of them `stride` from the next eight; what of a line lies beyond 128 bytes is `leading` further on.
  uint32_t chunk(int line, uint32_t column) const {
    const uint32_t beyond = transposed ? column / 128 * leading + column % 128 : column;
    const uint32_t linear = address + line / 8 * stride + line % 8 * 128 + beyond;
    return (linear ^ (linear >> 7 & 7) << 4) - SharedMemory::kFirstAddress;
  }

  void check(int row_bytes) const {
    if (swizzle != 1 || base_offset != 0 || stride % 1024 != 0 || (transposed && (leading == 0 || leading % 1024 != 0)))
      machine().fail(std::string("wgmma with a matrix descriptor that ") + (transposed ? "transposed" : "swizzled") + "_descriptor does not make");
    if (!transposed && address % 128 + row_bytes > 128)
      machine().fail("wgmma reads " + std::to_string(row_bytes) + " bytes of each row from byte " + std::to_string(address % 128) +
                     " on, beyond its 128");
    if (transposed ? address % 1024 != 0 : address / 128 % 8 != 0)
      machine().fail("wgmma with a tile that does not begin at a multiple of 1024 bytes");
  }

  uint32_t address, leading, stride;
  uint64_t base_offset;
  int swizzle;  // 1: 128 bytes
  bool transposed;
};

/// Reads a tile of `rows` rows (or, of the right operand, columns) by `inputs`, whose values are to lie so far apart.
void read_values(const Tile& tile, Element element, int rows, int inputs, float* values, int row_stride, int input_stride) {
  const SharedMemory& shared = machine().shared();
  const int lines = tile.transposed ? inputs : rows, across = tile.transposed ? rows : inputs, at_once = 32 / element_bytes(element);
  const int line_stride = tile.transposed ? input_stride : row_stride, stride = tile.transposed ? row_stride : input_stride;
  for (int line = 0; line < lines; ++line) {
    for (int first = 0; first < across; first += at_once) {
      unsigned char bytes[32];
      const uint32_t column = static_cast<uint32_t>(first * element_bytes(element));
      for (uint32_t half : {0u, 16u}) std::memcpy(bytes + half, shared.data() + tile.chunk(line, column + half), 16);
      float decoded[32];
      decode(element, bytes, decoded);
      for (int i = 0; i < at_once; ++i) values[line * line_stride + (first + i) * stride] = decoded[i];
    }
  }
}

// Tiles hold zeros beyond the tokens and channels that there are. What they give need not be computed, unless they meet infinity or NaN.

struct Contents {
  bool zero = true, finite = true;
  void add(const float* values, int count) {
    for (int i = 0; i < count; ++i) zero &= values[i] == 0, finite &= values[i] - values[i] == 0;
  }
};

/// The first columns, half of all, a quarter and so on, beyond which there are zeros alone.
int columns_before_zeros(const float* right, int inputs, int columns) {
  int count = columns;
  for (; count > 8; count /= 2) {
    Contents half;
    for (int k = 0; k < inputs; ++k) half.add(right + k * columns + count / 2, count / 2);
    if (!half.zero) break;
  }
  return count;
}

}  // namespace

void AsynchronousProducts::begin(int threads) {
  warpgroups_.resize(threads / 32);
  for (Warpgroup& warpgroup : warpgroups_) {
    warpgroup.products.clear();
    warpgroup.computed = 0;
  }
  threads_.resize(threads);
  for (ThreadState& thread : threads_) thread.begin();
}

void AsynchronousProducts::end(const std::string& place) const {
  for (const Warpgroup& warpgroup : warpgroups_)
    if (!warpgroup.products.empty())
      throw Error(error_code::kGpuFailed,
                  place + ": the block ended while products of a warpgroup were under way; commit and wait for them first");
}

/// Visits each piece of 16 bytes that a product reads of shared memory.
template <typename Visit> void AsynchronousProducts::for_each_row(const ProductShape& shape, Visit&& visit) const {
  const auto visit_tile = [&](const Tile& tile, int rows, int row_bytes) {
    const int lines = tile.transposed ? row_bytes / element_bytes(shape.element) : rows;
    const int line_bytes = tile.transposed ? rows * element_bytes(shape.element) : row_bytes;
    for (int line = 0; line < lines; ++line)
      for (int column = 0; column < line_bytes; column += 16) visit(tile.chunk(line, static_cast<uint32_t>(column)));
  };
  if (shape.left_in_shared) visit_tile(Tile(shape.left, shape.left_transposed), kLeftRows, 32);
  visit_tile(Tile(shape.right, shape.right_transposed), shape.columns, shape.sparse ? 64 : 32);
}

void AsynchronousProducts::fence() {
  ThreadState& own = threads_[machine().current().id];
  own.fenced = own.ever_fenced = true;
}

void AsynchronousProducts::issue(const ProductShape& shape, void* d, const uint32_t* a, uint32_t metadata) {
  need_hopper("wgmma");
  const int self = machine().current().id;
  const int first_thread = machine().warpgroup("wgmma"), lane = self - first_thread;
  Warpgroup& group = warpgroups_[first_thread / 32];
  ThreadState& own = threads_[self];
  if (!(a ? own.fenced : own.ever_fenced)) machine().fail("wgmma without wgmma_fence after its registers were written");
  const size_t place = static_cast<size_t>(own.issued - group.computed);
  const bool first = place == group.products.size();
  if (first) {
    Tile(shape.right, shape.right_transposed).check(shape.sparse ? 64 : 32);
    if (shape.left_in_shared) Tile(shape.left, shape.left_transposed).check(32);
    group.products.push_back({shape, {}, {}, {}, {}});
  }
  Product& product = group.products[place];
  if (product.shape != shape)
    machine().fail("wgmma differs from the one that other threads of its warpgroup gave; all must give the same");
  SharedMemory& shared = machine().shared();
  if (first) {
    for_each_row(shape, [&](uint32_t offset) {
      shared.offset_of(shared.data() + offset, 16, 16, "wgmma");
      shared.check_product_read(self, offset, 16, "wgmma");
      shared.begin_use(offset, 16, &product.written);
    });
  } else if (lane % 32 == 0) {
    shared.check_product_order(self, product.written, "wgmma");
  }
  product.d[lane] = d;
  product.metadata[lane] = metadata;
  if (a) std::memcpy(&product.a[4 * lane], a, 16);
  ++own.issued;
  Thread& thread = machine().current();
  const uintptr_t begin = reinterpret_cast<uintptr_t>(d), end = begin + accumulator_bytes(shape);
  thread.accumulators_begin = thread.awaits_products ? std::min(thread.accumulators_begin, begin) : begin;
  thread.accumulators_end = thread.awaits_products ? std::max(thread.accumulators_end, end) : end;
  thread.awaits_products = true;
}

void AsynchronousProducts::commit() {
  ThreadState& own = threads_[machine().current().id];
  own.groups.push_back(own.issued);
}

void AsynchronousProducts::wait(int pending) {
  int operand = pending;
  machine().meet_warpgroup("wgmma_wait", &operand, perform_wait);
  ThreadState& own = threads_[machine().current().id];
  own.fenced = false;
  machine().current().awaits_products = own.issued > own.finished;
}

void AsynchronousProducts::perform_wait(int first_thread, void* const* operands) {
  AsynchronousProducts& self = machine().products();
  MemoryOrder& order = machine().order();
  Warpgroup& group = self.warpgroups_[first_thread / 32];
  const ThreadState& first = self.threads_[first_thread];
  const int pending = *static_cast<const int*>(operands[0]);
  for (int lane = 1; lane < kThreads; ++lane) {
    const ThreadState& other = self.threads_[first_thread + lane];
    if (other.issued != first.issued || other.groups != first.groups || *static_cast<const int*>(operands[lane]) != pending)
      machine().fail(
          "wgmma_wait after other products or groups than other threads of its warpgroup gave; all must give the same");
  }
  const int64_t ended =
      static_cast<int64_t>(first.groups.size()) > pending ? first.groups[first.groups.size() - pending - 1] : first.finished;
  uint32_t clocks[4];
  for (uint32_t& clock : clocks) clock = order.tick();
  for (; group.computed < ended; ++group.computed) {
    const Product& product = group.products.front();
    self.compute(product);
    SharedMemory& shared = machine().shared();
    self.for_each_row(product.shape, [&](uint32_t offset) { shared.end_use(offset, 16, first_thread / 32, clocks); });
    group.products.pop_front();
  }
  for (int lane = 0; lane < kThreads; ++lane) {
    const int thread = first_thread + lane, warp = thread / 32;
    order.learn(thread, warp, clocks[lane / 32]);
    ThreadState& state = self.threads_[thread];
    const int ended_groups = std::max(0, static_cast<int>(state.groups.size()) - pending);
    state.groups.erase(state.groups.begin(), state.groups.begin() + ended_groups);
    state.finished = ended;
  }
}

void AsynchronousProducts::compute(const Product& product) {
  const ProductShape& shape = product.shape;
  const int columns = shape.columns, step = step_inputs(shape.element), inputs = shape.sparse ? 2 * step : step;

  // At most 64 inputs by 256 columns; products are computed one at a time.
  static float right[64 * 256], a[kLeftRows * 32], sums[16 * 256];
  read_values(Tile(shape.right, shape.right_transposed), shape.element, columns, inputs, right, 1, columns);
  Contents right_contents;
  right_contents.add(right, inputs * columns);
  const int before_zeros = columns_before_zeros(right, inputs, columns);
  if (shape.left_in_shared) read_values(Tile(shape.left, shape.left_transposed), shape.element, kLeftRows, step, a, step, 1);

  for (int warp = 0; warp < 4; ++warp) {
    LeftRows left;
    if (shape.left_in_shared) {
      left.stored = step;
      for (int row = 0; row < 16; ++row) {
        std::copy_n(&a[static_cast<size_t>(16 * warp + row) * step], step, left.values[row]);
        for (int s = 0; s < step; ++s) left.inputs[row][s] = static_cast<uint8_t>(s);
      }
    } else {
      const uint32_t* registers[32];
      for (int lane = 0; lane < 32; ++lane) registers[lane] = &product.a[4 * (32 * warp + lane)];
      gather_left(shape.element, registers, shape.sparse ? &product.metadata[32 * warp] : nullptr, shape.selector, left);
    }
    Contents left_contents;
    for (int row = 0; row < 16; ++row) left_contents.add(left.values[row], left.stored);
    const int multiplied = left_contents.zero && right_contents.finite ? 0 : left_contents.finite ? before_zeros : columns;
    if (multiplied > 0) multiply(left, right, columns, multiplied, sums);
    for (int lane = 0; lane < 32; ++lane) {
      void* const d = product.d[32 * warp + lane];
      const int g = lane / 4, t = lane % 4;
      for (int j = 0; j < multiplied / 8; ++j)
        for (int i = 0; i < 4; ++i) {
          const float sum = sums[static_cast<size_t>(g + 8 * (i / 2)) * multiplied + 8 * j + 2 * t + i % 2];
          if (shape.element == Element::kInt8) {
            int32_t& to = static_cast<int32_t*>(d)[4 * j + i];
            to = static_cast<int32_t>((shape.accumulate ? static_cast<uint32_t>(to) : 0u) +
                                      static_cast<uint32_t>(static_cast<int32_t>(sum)));
          } else {
            float& to = static_cast<float*>(d)[4 * j + i];
            to = shape.accumulate ? to + sum : sum;
          }
        }
      const size_t written = accumulator_bytes(shape) / columns * multiplied;
      if (!shape.accumulate) std::memset(static_cast<unsigned char*>(d) + written, 0, accumulator_bytes(shape) - written);
    }
  }
}

bool AsynchronousProducts::are_under_way(uintptr_t address, size_t bytes) const {
  const int self = machine().current().id;
  const ThreadState& own = threads_[self];
  const int first_thread = machine().warpgroup("wgmma");
  const Warpgroup& group = warpgroups_[first_thread / 32];
  for (int64_t i = own.finished; i < own.issued; ++i) {
    const Product& product = group.products[static_cast<size_t>(i - group.computed)];
    const uintptr_t begin = reinterpret_cast<uintptr_t>(product.d[self - first_thread]);
    if (address < begin + accumulator_bytes(product.shape) && begin < address + bytes) return true;
  }
  return false;
}

}  // namespace usmlite::emu

namespace usmlite::cuda::ptx {

namespace {
emu::AsynchronousProducts& products() { return emu::machine().products(); }
}  // namespace

void wgmma_fence() { products().fence(); }
void wgmma_commit() { products().commit(); }
void wait_for_products(int pending) { products().wait(pending); }
void issue_product(const emu::ProductShape& shape, void* d, const uint32_t* a, uint32_t metadata) {
  products().issue(shape, d, a, metadata);
}

}  // namespace usmlite::cuda::ptx
