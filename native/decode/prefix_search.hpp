// CTC prefix beam search (Hannun et al. 2014), the fast form of lib/decode/reference_prefix_search.ts: the same steps in the
// same order, so the same sequences survive.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "decode/alignments.hpp"
#include "decode/language_scorer.hpp"
#include "decode/survival_floor.hpp"

namespace usmlite::decode {

struct PrefixSearchOptions {
  int32_t blank = 0;
  std::vector<int32_t> allowed;  // tokens that may be said, ascending
  int32_t tokens = 0;            // all, the blank included
  size_t beam_width = 32;
  double beam_threshold = 14, token_threshold = 8;  // nats
  size_t maximum_tokens = 20;
  float blank_penalty = 0;  // nats
};

/// A sequence of the beam, if the utterance ended here.
struct RankedPrefix {
  double total;  // ln P of all its alignments within the beam
  double score;  // with what the language model adds
  std::vector<int32_t> ids;
  std::vector<Alignment> alignments;  // of the best path, in step with `ids`
};

class PrefixSearch {
 public:
  PrefixSearch(PrefixSearchOptions options, std::shared_ptr<LanguageScorer> scorer);

  /// `values`: (frames, tokens) natural logarithms. Throws INVALID_ARGUMENT where they are not numbers.
  void advance(const float* values, int64_t frames);
  std::vector<RankedPrefix> ranked();
  /// The tokens that everything in the beam begins with.
  std::vector<int32_t> settled();
  /// Decides for what the best sequence says before `frame`.
  void settle_before(int32_t frame);
  int64_t frames() const { return frame_; }

 private:
  /// All alignments that end in one way: their total, and the best one of them.
  struct PathSum {
    double total = -std::numeric_limits<double>::infinity();
    double best = -std::numeric_limits<double>::infinity();
    Alignment alignment;
  };
  /// One sequence of tokens, a node of the tree of those that are in the beam or begin one that is.
  struct Prefix {
    int32_t parent = -1, id = 0, first_child = -1, next_sibling = -1;
    bool active = false;   // in the beam, so that its sums are valid
    bool kept = false;     // survives the frame at hand
    bool in_tree = false;
    double total = 0;      // up to the frame before
    double score = 0;      // `total` plus what the language model adds; of one born in the frame at hand already of this frame
    PathSum in_blank, in_token, next_in_blank, next_in_token;
    LanguageState state;
  };

  /// One that may be in the beam of the next frame; `place` settles the order of equal scores.
  struct Candidate { double score; int32_t place, index; };

  void step(const float* row);
  void stay(Prefix& prefix, const float* row);
  void begin_floor();
  void extend(int32_t parent, int32_t id, double score, double least_to_ask);
  void choose_candidates();
  void choose_tokens(const float* row);
  void next_frame(Prefix& prefix);
  int32_t child(const Prefix& prefix, int32_t id) const;
  int32_t make(int32_t parent, int32_t id, const LanguageState& state);
  void activate(int32_t index);
  void drop(int32_t index);
  void deactivate(int32_t index);
  void forget(int32_t index);
  void clear(PathSum& sum);
  void assign(PathSum& sum, const PathSum& from, double added);
  std::vector<int32_t> path(const Prefix& prefix, std::vector<Alignment>* alignments) const;

  const PrefixSearchOptions options_;
  const std::shared_ptr<LanguageScorer> scorer_;
  const double headroom_;
  std::vector<Prefix> prefixes_;
  std::vector<int32_t> unused_;
  Alignments alignments_;
  std::vector<int32_t> beam_, born_;
  std::vector<Candidate> candidates_;
  SurvivalFloor floor_;
  std::vector<int32_t> tried_;  // tokens of the frame at hand
  std::vector<float> row_;
  int32_t settled_ = 0;
  int32_t frame_ = 0;
};

}  // namespace usmlite::decode
