#include "cuda/row_copies.hpp"

#include <algorithm>
#include <numeric>

#include "cuda/device_sequences.hpp"
#include "cuda/device_tensor.hpp"

namespace usmlite::cuda {
namespace {

DeviceSequences all_of(const std::vector<int32_t>& indices, const Stream& stream) {
  return DeviceSequences({0, static_cast<int32_t>(indices.size())}, indices, stream);
}

/// Where each row is named, in order.
DeviceSequences places_of(const std::vector<int32_t>& indices, const Stream& stream) {
  std::vector<int32_t> places(indices.size()), offsets;
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(),
                   [&](int32_t a, int32_t b) { return indices[static_cast<size_t>(a)] < indices[static_cast<size_t>(b)]; });
  for (size_t i = 0; i < places.size(); ++i) {
    const bool is_first = i == 0 || indices[static_cast<size_t>(places[i])] != indices[static_cast<size_t>(places[i - 1])];
    if (is_first) offsets.push_back(static_cast<int32_t>(i));
  }
  offsets.push_back(static_cast<int32_t>(places.size()));
  return DeviceSequences(std::move(offsets), places, stream);
}

}  // namespace

void gather_rows(const DeviceMatrix& x, const std::vector<int32_t>& indices, const DeviceMatrix& y, const Stream& stream) {
  if (!indices.empty()) gather_rows(x, all_of(indices, stream).use_on(stream), y, stream);
}

void add_rows(const DeviceMatrix& x, const std::vector<int32_t>& indices, const DeviceMatrix& sum, const Stream& stream) {
  if (indices.empty()) return;
  DeviceSequences all = all_of(indices, stream), places = places_of(indices, stream);
  add_rows(x, all.use_on(stream), places.use_on(stream), sum, stream);
}

}  // namespace usmlite::cuda
