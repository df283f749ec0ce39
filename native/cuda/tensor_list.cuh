// Kernels that go through many tensors in one launch: a model has hundreds of parameters, most of them too small to be worth a launch
// of their own. The list is among the arguments of the kernel, so that nothing is copied to the GPU for it.
#pragma once
#include <algorithm>
#include <span>

#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

namespace usmlite::cuda {

/// Of one launch. A kernel may have 4 KiB of arguments on every GPU.
inline constexpr int kMostListed = 56;

/// Item: what a kernel knows of a tensor, with its number of elements, `count`.
template <typename Item> struct TensorList {
  static_assert(sizeof(Item) <= 64);
  Item items[kMostListed];
  unsigned ends[kMostListed];  // the blocks of the items before and of this one
  int size;
};

/// The part of an item that a block of kElements elements takes.
struct ListedPart {
  int item;
  int64_t begin, end;
};

template <int kElements, typename Item> __device__ __forceinline__ ListedPart part_of_block(const TensorList<Item>& list) {
  int item = 0;
  for (int step = 32; step > 0; step /= 2) {  // the items whose blocks all come before this one
    if (item + step < list.size && list.ends[item + step - 1] <= blockIdx.x) item += step;
  }
  const unsigned before = item == 0 ? 0 : list.ends[item - 1];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - before) * kElements;
  return {item, begin, min(begin + kElements, list.items[item].count)};
}

/// Calls `launch_list(list, blocks, blocks of earlier lists)` until all items have had their turn.
template <int kElements, typename Item, typename Launch> void launch_over(std::span<const Item> items, Launch&& launch_list) {
  int64_t blocks_before = 0;
  while (!items.empty()) {
    TensorList<Item> list{};
    unsigned blocks = 0;
    size_t taken = 0;
    for (; taken < items.size() && list.size < kMostListed; ++taken) {
      if (items[taken].count == 0) continue;
      blocks += static_cast<unsigned>((items[taken].count + kElements - 1) / kElements);
      list.items[list.size] = items[taken];
      list.ends[list.size++] = blocks;
    }
    items = items.subspan(taken);
    if (blocks > 0) launch_list(list, blocks, blocks_before);
    blocks_before += blocks;
  }
}

}  // namespace usmlite::cuda
