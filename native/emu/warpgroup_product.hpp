// wgmma: products of a warpgroup that run beside it. Threads only note what they ask for; a product is computed when the
// warpgroup waits for it, so nothing of its result can be used before. Until then its tiles in shared memory must not be
// written, nor its accumulators touched (noticed where kernels are compiled with the access hooks, access_hooks.cpp).
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "emu/matrix_product.hpp"
#include "emu/shared_memory.hpp"

namespace usmlite::emu {

/// What all threads of a warpgroup must ask for alike.
struct ProductShape {
  Element element;
  int columns;
  bool sparse;
  int selector;
  bool left_in_shared;
  uint64_t left, right;  // descriptors
  bool left_transposed, right_transposed;  // MN-major instead of K-major
  bool accumulate;
  bool operator==(const ProductShape&) const = default;
};

class AsynchronousProducts {
 public:
  void begin(int threads);
  void end(const std::string& place) const;

  void fence();
  /// `a` is null when the left operand is in shared memory. Its words are taken at once; `d` is read and written later.
  void issue(const ProductShape& shape, void* d, const uint32_t* a, uint32_t metadata);
  void commit();
  void wait(int pending);

  /// Whether `bytes` at an address are accumulators of a product of the running thread that is under way.
  bool are_under_way(uintptr_t address, size_t bytes) const;

 private:
  static constexpr int kThreads = 128;
  struct Product {
    ProductShape shape;
    std::array<void*, kThreads> d;         // per thread of the warpgroup
    std::array<uint32_t, 4 * kThreads> a;  // four words per thread
    std::array<uint32_t, kThreads> metadata;
    std::vector<SharedMemory::Written> written;  // what its tiles hold
  };
  struct Warpgroup {
    std::deque<Product> products;  // not yet computed
    int64_t computed = 0;
  };
  struct ThreadState {
    int64_t issued, finished;     // products
    std::vector<int64_t> groups;  // `issued` at the end of each committed group that is under way
    // Since the last wgmma_wait, and ever: a fence must follow what was written to registers, which is only known of left
    // operands (new ones after each wait) and of first accumulators.
    bool fenced, ever_fenced;

    void begin() {
      issued = finished = 0;
      groups.clear();
      fenced = ever_fenced = false;
    }
  };

  static void perform_wait(int first_thread, void* const* operands);
  void compute(const Product& product);
  template <typename Visit> void for_each_row(const ProductShape& shape, Visit&& visit) const;

  std::vector<Warpgroup> warpgroups_;  // at the place of its first warp
  std::vector<ThreadState> threads_;
};

}  // namespace usmlite::emu
