// How far a transducer is from a teacher: for each pair of a frame and a label position, between blank, next label and anything else
// (Panchapagesan et al., ICASSP 2021), and between durations. A pair counts by the share of the teacher's paths that pass through it.
#pragma once
#include <cstdint>
#include <vector>

namespace usmlite {

/// Logarithms of probabilities as the loss of a transducer keeps them of a cell: blank, next label, durations.
struct CollapsedCell {
  const float* kept;
  bool has_label;     // behind the last label there is none
  int64_t durations;
  float undernormalization;  // was taken from blank and label

  double blank() const;
  double label() const;  // 0 without one
  double rest() const;
  double duration(int64_t index) const;
};

/// Weights (cells) that sum to 1, or are all 0 when the teacher has no path.
std::vector<float> teacher_shares(int64_t frames, int64_t labels, const int32_t* durations, int64_t duration_count, const float* lattice);

/// KL(teacher || student) of one cell.
double collapsed_divergence(const CollapsedCell& student, const CollapsedCell& teacher);

}  // namespace usmlite
