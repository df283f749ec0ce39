#include "decode/language_scorer.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/error.hpp"
#include "decode/log_add.hpp"

namespace usmlite::decode {
namespace {

constexpr double kCodesPerNat = 16;
constexpr int32_t kTextEnd = 1, kFirstWord = 2;  // as in ngram_language_model.ts
constexpr size_t kRememberedLookAheads = 1 << 16;  // a power of two

void require(bool holds, const char* what) {
  if (!holds) throw Error(error_code::kInvalidArgument, std::string("the tables of a language model do not fit together: ") + what);
}

/// Every value lies in [low, high).
void require_range(std::span<const int32_t> values, int64_t low, int64_t high, const char* what) {
  require(std::all_of(values.begin(), values.end(), [&](int32_t value) { return value >= low && value < high; }), what);
}

}  // namespace

LanguageScorer::LanguageScorer(NgramTables ngrams, SpellingTables spelling, LexiconTables lexicon, PieceTables pieces, double alpha,
                               double beta)
    : ngrams_(ngrams), spelling_(spelling), lexicon_(lexicon), pieces_(std::move(pieces)), alpha_(alpha), beta_(beta),
      look_aheads_(kRememberedLookAheads) {
  const auto nodes = static_cast<int64_t>(ngrams_.word.size());
  require(nodes > kFirstWord && ngrams_.first_child.size() == ngrams_.word.size() + 1 && ngrams_.suffix.size() == ngrams_.word.size() &&
              ngrams_.probability.size() == ngrams_.word.size() && ngrams_.backoff.size() == ngrams_.word.size(),
          "n-grams");
  require_range(ngrams_.first_child, 0, nodes + 1, "n-grams that follow");
  require(std::is_sorted(ngrams_.first_child.begin(), ngrams_.first_child.end()), "n-grams that follow, in order");
  require_range(ngrams_.suffix, 0, nodes, "shorter n-grams");
  for (int64_t node = 1; node < nodes; ++node) require(ngrams_.suffix[node] < node, "shorter n-grams, which come before");
  require(ngrams_.start >= 0 && ngrams_.start < nodes, "the first context");

  const int64_t width = spelling_.width;
  require(width >= 2 && !spelling_.scores.empty() && spelling_.scores.size() % width == 0 && spelling_.scores.size() == spelling_.following.size(),
          "spelling");
  const auto states = static_cast<int64_t>(spelling_.scores.size()) / width;
  require_range(spelling_.following, 0, states, "states of spelling");
  require(spelling_.start >= 0 && spelling_.start < states && spelling_.end_symbol >= 0 && spelling_.end_symbol < width,
          "the first state of spelling");
  require_range(pieces_.symbols, 0, width, "letters of tokens");
  require(pieces_.offsets.size() == pieces_.begins_word.size() + 1 && std::is_sorted(pieces_.offsets.begin(), pieces_.offsets.end()) &&
              pieces_.offsets.front() == 0 && pieces_.offsets.back() == static_cast<int64_t>(pieces_.symbols.size()),
          "tokens");

  const auto words = static_cast<int64_t>(ngrams_.first_child[0] == 1 ? ngrams_.first_child[1] : 0) - 1 - kFirstWord;
  require(words >= 0, "words");
  const auto lexicon_nodes = static_cast<int64_t>(lexicon_.word_at.size());
  require(lexicon_.symbols >= 0 && static_cast<int64_t>(lexicon_.children.size()) <= lexicon_nodes * lexicon_.symbols &&
              lexicon_.best_below.size() == lexicon_.word_at.size() && lexicon_.first_below.size() == lexicon_.word_at.size() &&
              lexicon_.end_below.size() == lexicon_.word_at.size() && lexicon_nodes > 0,
          "the lexicon");
  const int64_t branching = lexicon_.symbols > 0 ? static_cast<int64_t>(lexicon_.children.size()) / lexicon_.symbols : 1;
  require(branching > 0, "the lexicon");  // the node that all words begin at has children
  require_range(lexicon_.children, -1, branching, "the lexicon");
  require_range(lexicon_.word_at, -1, words, "words of the lexicon");
  require_range(lexicon_.first_below, -1, words + 1, "words of the lexicon");
  require_range(lexicon_.end_below, 0, words + 1, "words of the lexicon");
  unknown_score_ = -ngrams_.backoff[0] / kCodesPerNat;
  letters_cost_ = alpha_ >= 0 && std::all_of(spelling_.scores.begin(), spelling_.scores.end(), [](float score) { return score <= 0; });
  for (int32_t token = 0; token < tokens(); ++token) beginnings_.push_back(spell({0, spelling_.start, 0}, token));
}

LanguageState LanguageScorer::between_words(double score, int32_t context) const {
  LanguageState state;
  state.score = state.closed_score = score;
  state.context = context;
  state.spelling_state = spelling_.start;
  return state;
}

LanguageState LanguageScorer::extend(LanguageState& state, int32_t token) {
  LanguageState next = state;
  if (ends_word(state, token)) {
    close(state);
    next = between_words(state.score_if_closed, state.context_if_closed);
  }
  if (letters(token) == 0) return next;
  if (next.letters == 0) next.closed_score += beta_;
  const Spelling word = next.letters == 0 ? beginnings_[token] : spell({next.lexicon_node, next.spelling_state, next.spelled}, token);
  next.lexicon_node = word.lexicon_node;
  next.spelling_state = word.state;
  next.spelled = word.score;
  next.score = next.closed_score + alpha_ * look_ahead(next.context, word);
  next.letters += letters(token);
  next.context_if_closed = -1;
  return next;
}

// Letters leave fewer words that the open one can become, of which none gets likelier.
double LanguageScorer::most_after(LanguageState& state, int32_t token) {
  const bool ends = ends_word(state, token);
  if (ends) close(state);
  if (letters(token) == 0) return ends ? state.score_if_closed : state.score;
  if (ends) return state.score_if_closed + beta_ + alpha_ * look_ahead(state.context_if_closed, beginnings_[token]);
  if (state.letters == 0) return state.closed_score + beta_ + alpha_ * look_ahead(state.context, beginnings_[token]);
  return letters_cost_ ? state.score : std::numeric_limits<double>::infinity();
}

LanguageScorer::Spelling LanguageScorer::spell(Spelling word, int32_t token) const {
  for (int32_t i = pieces_.offsets[token]; i < pieces_.offsets[token + 1]; ++i) {
    const int32_t symbol = pieces_.symbols[i];
    if (word.lexicon_node >= 0) {
      word.lexicon_node = symbol < lexicon_.symbols ? lexicon_.children[static_cast<size_t>(word.lexicon_node) * lexicon_.symbols + symbol] : -1;
    }
    word.score += spelling_score(word.state, symbol);
    word.state = spelling_.following[static_cast<size_t>(word.state) * spelling_.width + symbol];
  }
  return word;
}

// ln P of the best word that begins like this, known or not.
double LanguageScorer::look_ahead(int32_t context, const Spelling& word) {
  return std::max(best_word(context, word.lexicon_node), unknown_score_ + word.score);
}

double LanguageScorer::finish(LanguageState& state) const {
  if (state.letters == 0) return state.closed_score + alpha_ * predict(state.context, kTextEnd).score;
  close(state);
  return state.score_if_closed + alpha_ * predict(state.context_if_closed, kTextEnd).score;
}

void LanguageScorer::close(LanguageState& state) const {
  if (state.context_if_closed >= 0) return;
  const int32_t word = state.lexicon_node < 0 ? -1 : lexicon_.word_at[state.lexicon_node];
  const Prediction closed = word >= 0 ? predict(state.context, word + kFirstWord)
                                      : predict_unknown(state.context, state.spelled + spelling_score(state.spelling_state, spelling_.end_symbol));
  state.score_if_closed = state.closed_score + alpha_ * closed.score;
  state.context_if_closed = closed.context;
}

// ln P of the best word that begins like this, after `context`.
double LanguageScorer::best_word(int32_t context, int32_t lexicon_node) {
  if (lexicon_node < 0) return kImpossible;
  const uint64_t key = static_cast<uint64_t>(context) * lexicon_.word_at.size() + static_cast<uint64_t>(lexicon_node);
  LookAhead& remembered = look_aheads_[(key * 0x9e3779b97f4a7c15ull) >> 48];  // Fibonacci hashing: neighbours are spread
  const uint64_t bits = remembered.score.load(std::memory_order_relaxed);
  if ((remembered.key_and_score.load(std::memory_order_relaxed) ^ bits) == key) return std::bit_cast<double>(bits);
  const int32_t first = lexicon_.first_below[lexicon_node] + kFirstWord, end = lexicon_.end_below[lexicon_node] + kFirstWord;
  const double score = best_score(context, first, end, lexicon_.best_below[lexicon_node]);
  remembered.score.store(std::bit_cast<uint64_t>(score), std::memory_order_relaxed);
  remembered.key_and_score.store(key ^ std::bit_cast<uint64_t>(score), std::memory_order_relaxed);
  return score;
}

double LanguageScorer::best_score(int32_t context, int32_t first, int32_t end, double unigram) const {
  double best = kImpossible, score = 0;
  for (int32_t node = context; node != 0; node = ngrams_.suffix[node]) {
    const int32_t last = ngrams_.first_child[node + 1];
    int code = std::numeric_limits<int>::max();
    for (int32_t child = lower_bound(node, first); child < last && ngrams_.word[child] < end; ++child) {
      code = std::min<int>(code, ngrams_.probability[child]);
    }
    if (code != std::numeric_limits<int>::max()) best = std::max(best, score - code / kCodesPerNat);
    score -= ngrams_.backoff[node] / kCodesPerNat;
  }
  return std::max(best, score + unigram);
}

LanguageScorer::Prediction LanguageScorer::predict(int32_t context, int32_t word) const {
  double score = 0;
  for (int32_t node = context;; node = ngrams_.suffix[node]) {
    if (const int32_t child = child_of(node, word); child >= 0) {
      return {score - ngrams_.probability[child] / kCodesPerNat, child >= ngrams_.first_of_longest ? ngrams_.suffix[child] : child};
    }
    score -= ngrams_.backoff[node] / kCodesPerNat;
  }
}

LanguageScorer::Prediction LanguageScorer::predict_unknown(int32_t context, double spelling) const {
  double score = spelling;
  for (int32_t node = context;; node = ngrams_.suffix[node]) {
    score -= ngrams_.backoff[node] / kCodesPerNat;
    if (node == 0) return {score, 0};
  }
}

int32_t LanguageScorer::child_of(int32_t node, int32_t word) const {
  if (node == 0) return 1 + word;
  const int32_t child = lower_bound(node, word);
  return child < ngrams_.first_child[node + 1] && ngrams_.word[child] == word ? child : -1;
}

// The first child of `node` whose word is `word` or a later one; the end of its children when there is none.
int32_t LanguageScorer::lower_bound(int32_t node, int32_t word) const {
  const auto begin = ngrams_.word.begin();
  return static_cast<int32_t>(std::lower_bound(begin + ngrams_.first_child[node], begin + ngrams_.first_child[node + 1], word) - begin);
}

}  // namespace usmlite::decode
