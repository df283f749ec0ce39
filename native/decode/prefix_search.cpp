#include "decode/prefix_search.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "decode/log_add.hpp"

namespace usmlite::decode {
namespace {

// The language model is not asked about a token when the sequence would not survive even if it added this many nats.
constexpr double kScorerHeadroom = 6;

std::string not_numbers(int32_t frame) {
  return "the log-probabilities of frame " + std::to_string(frame) + " are not numbers";
}

}  // namespace

PrefixSearch::PrefixSearch(PrefixSearchOptions options, std::shared_ptr<LanguageScorer> scorer)
    : options_(std::move(options)), scorer_(std::move(scorer)), headroom_(scorer_ ? kScorerHeadroom : 0),
      floor_(options_.beam_width, options_.beam_threshold), row_(options_.tokens) {
  // The sequence without tokens, which every search starts from.
  const int32_t root = make(-1, options_.blank, scorer_ ? scorer_->start() : LanguageState{});
  Prefix& empty = prefixes_[root];
  empty.next_in_blank.total = empty.next_in_blank.best = 0;
  next_frame(empty);
  empty.active = empty.in_tree = true;
  beam_ = {root};
  settled_ = root;
}

void PrefixSearch::advance(const float* values, int64_t frames) {
  for (int64_t frame = 0; frame < frames; ++frame) {
    std::copy_n(values + frame * options_.tokens, options_.tokens, row_.begin());
    row_[options_.blank] -= options_.blank_penalty;
    step(row_.data());
  }
}

std::vector<RankedPrefix> PrefixSearch::ranked() {
  std::vector<RankedPrefix> all;
  for (const int32_t index : beam_) {
    Prefix& prefix = prefixes_[index];
    RankedPrefix one{prefix.total, prefix.total + (scorer_ ? scorer_->finish(prefix.state) : 0), {}, {}};
    one.ids = path(prefix, &one.alignments);
    all.push_back(std::move(one));
  }
  std::stable_sort(all.begin(), all.end(), [](const RankedPrefix& a, const RankedPrefix& b) { return a.score > b.score; });
  return all;
}

std::vector<int32_t> PrefixSearch::settled() {
  for (;;) {
    const Prefix& prefix = prefixes_[settled_];
    if (prefix.active || prefix.first_child < 0 || prefixes_[prefix.first_child].next_sibling >= 0) break;
    settled_ = prefix.first_child;
  }
  std::vector<int32_t> ids;
  for (int32_t index = settled_; prefixes_[index].parent >= 0; index = prefixes_[index].parent) ids.push_back(prefixes_[index].id);
  std::reverse(ids.begin(), ids.end());
  return ids;
}

void PrefixSearch::settle_before(int32_t frame) {
  int32_t decided = *std::max_element(beam_.begin(), beam_.end(), [&](int32_t a, int32_t b) { return prefixes_[a].score < prefixes_[b].score; });
  std::vector<Alignment> alignments;
  path(prefixes_[decided], &alignments);
  for (auto last = alignments.rbegin(); last != alignments.rend() && last->first_frame >= frame; ++last) decided = prefixes_[decided].parent;
  std::vector<int32_t> kept, left;
  for (const int32_t index : beam_) {
    int32_t ancestor = index;
    while (ancestor >= 0 && ancestor != decided) ancestor = prefixes_[ancestor].parent;
    (ancestor == decided ? kept : left).push_back(index);
  }
  for (const int32_t index : left) deactivate(index);
  beam_ = std::move(kept);
}

void PrefixSearch::step(const float* row) {
  for (const int32_t index : beam_) stay(prefixes_[index], row);
  begin_floor();
  choose_tokens(row);
  born_.clear();
  const double least_to_ask = floor_.least();
  for (const int32_t index : beam_) {
    for (const int32_t id : tried_) extend(index, id, row[id], least_to_ask);
  }
  for (const int32_t index : beam_) next_frame(prefixes_[index]);
  choose_candidates();
  for (const Candidate& candidate : candidates_) activate(candidate.index);
  for (const int32_t index : born_) {
    if (prefixes_[index].kept) next_frame(prefixes_[index]);
    else drop(index);
  }
  for (const int32_t index : beam_) {
    if (!prefixes_[index].kept) deactivate(index);
  }
  beam_.clear();
  for (const Candidate& candidate : candidates_) {
    prefixes_[candidate.index].kept = false;
    beam_.push_back(candidate.index);
  }
  ++frame_;
}

// The best of those that stay and those that are born, best first.
void PrefixSearch::choose_candidates() {
  candidates_.clear();
  double best = kImpossible;
  for (const std::vector<int32_t>* indices : {&beam_, &born_}) {
    for (const int32_t index : *indices) {
      best = std::max(best, prefixes_[index].score);
      candidates_.push_back({prefixes_[index].score, static_cast<int32_t>(candidates_.size()), index});
    }
  }
  const double least = best - options_.beam_threshold;
  std::erase_if(candidates_, [&](const Candidate& candidate) { return !(candidate.score >= least); });
  if (candidates_.empty()) throw Error(error_code::kInvalidArgument, not_numbers(frame_));
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.score > b.score || (a.score == b.score && a.place < b.place);
  });
  if (candidates_.size() > options_.beam_width) candidates_.resize(options_.beam_width);
}

// The same sequence: a blank follows, or its last token is repeated.
void PrefixSearch::stay(Prefix& prefix, const float* row) {
  const double blank_score = row[options_.blank];
  const bool ends_in_blank = prefix.in_blank.best > prefix.in_token.best;
  assign(prefix.next_in_blank, ends_in_blank ? prefix.in_blank : prefix.in_token, blank_score);
  prefix.next_in_blank.total = prefix.total + blank_score;
  if (prefix.in_token.total == kImpossible) return;
  const double repeat_score = row[prefix.id];
  assign(prefix.next_in_token, prefix.in_token, repeat_score);
  prefix.next_in_token.total = prefix.in_token.total + repeat_score;
  Alignment& alignment = prefix.next_in_token.alignment;
  if (alignment.exists()) {
    alignment.end_frame = frame_ + 1;
    alignment.peak = std::max(alignment.peak, repeat_score);
  }
}

// What the survivors of this frame reach at least, as the sequences that stay as they are already do.
void PrefixSearch::begin_floor() {
  floor_.clear();
  for (const int32_t index : beam_) {
    const Prefix& prefix = prefixes_[index];
    const double score = log_add(prefix.next_in_blank.total, prefix.next_in_token.total) + prefix.state.score;
    if (std::isnan(score)) throw Error(error_code::kInvalidArgument, not_numbers(frame_));
    floor_.take(score);
  }
}

// One more token. A token equal to the last one needs a blank between them.
void PrefixSearch::extend(int32_t parent, int32_t id, double score, double least_to_ask) {
  Prefix& prefix = prefixes_[parent];
  const bool repeats = id == prefix.id && prefix.parent >= 0;
  const double total = (repeats ? prefix.in_blank.total : prefix.total) + score;
  if (total == kImpossible) return;
  int32_t index = child(prefix, id);
  if (index < 0 || !prefixes_[index].active) {
    if (total + prefix.state.score + headroom_ < least_to_ask) return;
    if (index >= 0) {
      if (total + prefixes_[index].state.score < floor_.least()) return;
    } else {
      if (scorer_ && total + scorer_->most_after(prefix.state, id) < floor_.least()) return;
      const LanguageState state = scorer_ ? scorer_->extend(prefix.state, id) : LanguageState{};
      if (total + state.score < floor_.least()) return;
      index = make(parent, id, state);
    }
    // Nothing else leads to this sequence in this frame.
    prefixes_[index].score = total + prefixes_[index].state.score;
    floor_.take(prefixes_[index].score);
    born_.push_back(index);
  }
  const Prefix& from_prefix = prefixes_[parent];  // make() may have moved it
  const PathSum& from = repeats || from_prefix.in_blank.best > from_prefix.in_token.best ? from_prefix.in_blank : from_prefix.in_token;
  PathSum& next = prefixes_[index].next_in_token;
  next.total = log_add(next.total, total);
  if (from.best + score > next.best) {
    alignments_.release(next.alignment);
    next.best = from.best + score;
    next.alignment = {frame_, frame_ + 1, alignments_.keep(from.alignment), score};
  }
}

// Tokens worth trying: within the threshold of the best of the frame, and not too many.
void PrefixSearch::choose_tokens(const float* row) {
  float highest = row[options_.blank];
  for (const int32_t id : options_.allowed) if (row[id] > highest) highest = row[id];
  const double least = highest - options_.token_threshold;
  tried_.clear();
  for (const int32_t id : options_.allowed) if (row[id] >= least) tried_.push_back(id);
  if (tried_.size() <= options_.maximum_tokens) return;
  std::stable_sort(tried_.begin(), tried_.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
  tried_.resize(options_.maximum_tokens);
}

// Makes the sums of the frame at hand the current ones.
void PrefixSearch::next_frame(Prefix& prefix) {
  std::swap(prefix.in_blank, prefix.next_in_blank);
  std::swap(prefix.in_token, prefix.next_in_token);
  clear(prefix.next_in_blank);
  clear(prefix.next_in_token);
  prefix.total = log_add(prefix.in_blank.total, prefix.in_token.total);
  prefix.score = prefix.total + prefix.state.score;
}

int32_t PrefixSearch::child(const Prefix& prefix, int32_t id) const {
  int32_t index = prefix.first_child;
  while (index >= 0 && prefixes_[index].id != id) index = prefixes_[index].next_sibling;
  return index;
}

int32_t PrefixSearch::make(int32_t parent, int32_t id, const LanguageState& state) {
  int32_t index = static_cast<int32_t>(prefixes_.size());
  if (unused_.empty()) {
    prefixes_.emplace_back();
  } else {
    index = unused_.back();
    unused_.pop_back();
    prefixes_[index] = Prefix{};
  }
  Prefix& prefix = prefixes_[index];
  prefix.parent = parent;
  prefix.id = id;
  prefix.state = state;
  return index;
}

// Enters the beam, and the tree.
void PrefixSearch::activate(int32_t index) {
  Prefix& prefix = prefixes_[index];
  prefix.active = prefix.kept = true;
  if (prefix.in_tree) return;
  prefix.in_tree = true;
  prefix.next_sibling = std::exchange(prefixes_[prefix.parent].first_child, index);
}

// Does not enter the beam after all. Where others descend from it, it stays in the tree.
void PrefixSearch::drop(int32_t index) {
  Prefix& prefix = prefixes_[index];
  for (PathSum* sum : {&prefix.in_blank, &prefix.in_token, &prefix.next_in_blank, &prefix.next_in_token}) clear(*sum);
  if (!prefix.in_tree) unused_.push_back(index);
}

// Leaves the beam; forgotten once nothing in the beam descends from it, so that memory does not grow with the audio.
void PrefixSearch::deactivate(int32_t index) {
  drop(index);
  prefixes_[index].active = false;
  while (prefixes_[index].parent >= 0 && !prefixes_[index].active && prefixes_[index].first_child < 0) {
    const int32_t parent = prefixes_[index].parent;
    forget(index);
    index = parent;
  }
}

void PrefixSearch::forget(int32_t index) {
  int32_t* link = &prefixes_[prefixes_[index].parent].first_child;
  while (*link != index) link = &prefixes_[*link].next_sibling;
  *link = prefixes_[index].next_sibling;
  unused_.push_back(index);
}

void PrefixSearch::clear(PathSum& sum) {
  alignments_.release(sum.alignment);
  sum = PathSum{};
}

// The best alignment of `from` goes on.
void PrefixSearch::assign(PathSum& sum, const PathSum& from, double added) {
  sum.best = from.best + added;
  sum.alignment = from.alignment;
  alignments_.hold(sum.alignment);
}

// The tokens and, in step with them, when they are emitted on the best alignment.
std::vector<int32_t> PrefixSearch::path(const Prefix& last, std::vector<Alignment>* alignments) const {
  std::vector<int32_t> ids;
  const Prefix* prefix = &last;
  Alignment alignment = last.in_blank.best > last.in_token.best ? last.in_blank.alignment : last.in_token.alignment;
  while (prefix->parent >= 0 && alignment.exists()) {
    ids.push_back(prefix->id);
    alignments->push_back(alignment);
    prefix = &prefixes_[prefix->parent];
    alignment = alignment.previous >= 0 ? alignments_[alignment.previous] : Alignment{};
  }
  std::reverse(ids.begin(), ids.end());
  std::reverse(alignments->begin(), alignments->end());
  return ids;
}

}  // namespace usmlite::decode
