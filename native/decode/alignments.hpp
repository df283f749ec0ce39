// When tokens are emitted: lists that share their beginnings, counted, so that memory does not grow with what no sequence
// of a beam needs any more.
#pragma once
#include <cstdint>
#include <vector>

namespace usmlite::decode {

/// When the last token of a sequence is emitted; `previous` says it of the one before.
struct Alignment {
  int32_t first_frame = -1;  // -1: no token
  int32_t end_frame = 0;
  int32_t previous = -1;  // in Alignments
  double peak = 0;        // highest ln P of the token in these frames

  bool exists() const { return first_frame >= 0; }
};

class Alignments {
 public:
  const Alignment& operator[](int32_t index) const { return entries_[index].alignment; }

  /// Somebody else holds on to what `alignment` goes on from.
  void hold(const Alignment& alignment) {
    if (alignment.previous >= 0) ++entries_[alignment.previous].holders;
  }

  /// Keeps `alignment`, so that others can go on from it; the caller holds on to the result. -1 for none.
  int32_t keep(const Alignment& alignment) {
    if (!alignment.exists()) return -1;
    hold(alignment);
    if (unused_.empty()) {
      entries_.push_back({alignment, 1});
      return static_cast<int32_t>(entries_.size()) - 1;
    }
    const int32_t index = unused_.back();
    unused_.pop_back();
    entries_[index] = {alignment, 1};
    return index;
  }

  /// Lets go of what `alignment` goes on from.
  void release(const Alignment& alignment) {
    for (int32_t index = alignment.previous; index >= 0 && --entries_[index].holders == 0; index = entries_[index].alignment.previous) {
      unused_.push_back(index);
    }
  }

 private:
  struct Entry {
    Alignment alignment;
    int32_t holders;
  };
  std::vector<Entry> entries_;
  std::vector<int32_t> unused_;
};

}  // namespace usmlite::decode
