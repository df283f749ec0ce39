#include "core/transducer_distillation.hpp"

#include <algorithm>
#include <cmath>

#include "core/transducer_lattice.hpp"

namespace usmlite {
namespace {

// q ln(q / p); a student that is sure of the opposite is as far away as float32 can say.
double term(double q, double p) { return q > 0.0 ? q * std::log(q / std::max(p, 1e-38)) : 0.0; }

}  // namespace

double CollapsedCell::blank() const { return std::exp(static_cast<double>(kept[0]) + undernormalization); }
double CollapsedCell::label() const { return has_label ? std::exp(static_cast<double>(kept[1]) + undernormalization) : 0.0; }
double CollapsedCell::rest() const { return std::max(0.0, 1.0 - blank() - label()); }
double CollapsedCell::duration(int64_t index) const { return std::exp(static_cast<double>(kept[2 + index])); }

std::vector<float> teacher_shares(int64_t frames, int64_t labels, const int32_t* durations, int64_t duration_count, const float* lattice) {
  TransducerLattice paths(frames, labels, durations, duration_count);
  std::vector<TransducerCell> tokens(paths.cells());
  std::vector<float> lengths, duration_posteriors, shares(paths.cells(), 0.0f);
  for (int64_t cell = 0; cell < paths.cells(); ++cell) {
    const float* kept = lattice + cell * (2 + duration_count);
    tokens[cell] = {kept[0], kept[1]};
    lengths.insert(lengths.end(), kept + 2, kept + 2 + duration_count);
  }
  if (!std::isfinite(paths.forward(tokens.data(), lengths.data()))) return shares;
  const auto posteriors = paths.backward(tokens.data(), lengths.data(), duration_posteriors);
  double total = 0.0;
  for (const auto& [blank, label] : posteriors) total += blank + label;
  for (int64_t cell = 0; cell < paths.cells(); ++cell) shares[cell] = static_cast<float>((posteriors[cell].blank + posteriors[cell].label) / total);
  return shares;
}

double collapsed_divergence(const CollapsedCell& student, const CollapsedCell& teacher) {
  double sum = term(teacher.blank(), student.blank()) + term(teacher.label(), student.label()) + term(teacher.rest(), student.rest());
  for (int64_t d = 0; d < teacher.durations; ++d) sum += term(teacher.duration(d), student.duration(d));
  return sum;
}

}  // namespace usmlite
