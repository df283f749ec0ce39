// Shallow fusion of a word n-gram with a search over sub-words: what lib/decode/language_model_scorer.ts says in TypeScript,
// over the same tables (language_tables.hpp), for the search of prefix_search.hpp. All scores are natural logarithms.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace usmlite::decode {

/// n-grams in breadth-first order (lib/decode/ngram_language_model.ts): node 0 is the empty one, then all unigrams by word.
struct NgramTables {
  std::span<const int32_t> word;         // last word of each node; ascending among the children of one
  std::span<const int32_t> first_child;  // one more than nodes
  std::span<const int32_t> suffix;       // the node without its first word
  std::span<const uint8_t> probability;  // codes: sixteenths of a nat, negated
  std::span<const uint8_t> backoff;
  int32_t start = 0;             // the context at the beginning of a text
  int32_t first_of_longest = 0;  // from here on nodes are no contexts
};

/// A character n-gram: (states, width) scores and states that follow.
struct SpellingTables {
  std::span<const float> scores;
  std::span<const int32_t> following;
  int32_t width = 0, start = 0, end_symbol = 0;
};

/// The words as a tree of characters; words count from 0 here, from kFirstWord in n-grams.
struct LexiconTables {
  std::span<const int32_t> children;  // (nodes, symbols), or -1
  std::span<const int32_t> word_at;   // or -1
  std::span<const float> best_below;
  std::span<const int32_t> first_below, end_below;
  int32_t symbols = 0;
};

/// The letters of each token, as symbols of the spelling model: those of token i are [offsets[i], offsets[i + 1]).
struct PieceTables {
  std::vector<int32_t> offsets, symbols;
  std::vector<uint8_t> begins_word;
};

/// What the scorer knows of a sequence of tokens.
struct LanguageState {
  double score = 0;         // what it adds to the acoustic score
  double closed_score = 0;  // of all closed words, and `beta` for these and the open one
  double spelled = 0;       // of the letters of the open word
  int32_t context = 0;      // of the n-gram before the open word
  int32_t letters = 0;      // of the open word; 0 when none is open
  int32_t lexicon_node = 0;  // -1 when no known word begins like the open one
  int32_t spelling_state = 0;
  // What closing the open word gives, computed when first asked for, as many tokens ask.
  int32_t context_if_closed = -1;
  double score_if_closed = 0;
};

/// Searches of several threads may share one; states belong to one of them.
class LanguageScorer {
 public:
  /// Throws INVALID_ARGUMENT where a table points outside another.
  LanguageScorer(NgramTables ngrams, SpellingTables spelling, LexiconTables lexicon, PieceTables pieces, double alpha, double beta);

  LanguageState start() const { return between_words(0, ngrams_.start); }
  LanguageState extend(LanguageState& state, int32_t token);
  /// The score that extend() makes; within a word one that is not lower, but sooner told.
  double most_after(LanguageState& state, int32_t token);
  /// What the score becomes when the text ends here.
  double finish(LanguageState& state) const;
  int32_t tokens() const { return static_cast<int32_t>(pieces_.begins_word.size()); }

 private:
  struct Prediction { double score; int32_t context; };
  /// Searches of several threads read and write entries; one counts only when both halves were written together (Hyatt and
  /// Mann 2002, "A lock-less transposition table implementation for parallel search").
  struct LookAhead { std::atomic<uint64_t> key_and_score = ~uint64_t{0}, score = 0; };
  /// The letters of an open word, as in LanguageState.
  struct Spelling { int32_t lexicon_node = 0, state = 0; double score = 0; };

  LanguageState between_words(double score, int32_t context) const;
  Spelling spell(Spelling before, int32_t token) const;
  bool ends_word(const LanguageState& state, int32_t token) const { return pieces_.begins_word[token] && state.letters > 0; }
  int32_t letters(int32_t token) const { return pieces_.offsets[token + 1] - pieces_.offsets[token]; }
  double look_ahead(int32_t context, const Spelling& word);
  void close(LanguageState& state) const;
  double best_word(int32_t context, int32_t lexicon_node);
  double best_score(int32_t context, int32_t first, int32_t end, double unigram) const;
  Prediction predict(int32_t context, int32_t word) const;
  Prediction predict_unknown(int32_t context, double spelling) const;
  int32_t child_of(int32_t node, int32_t word) const;
  int32_t lower_bound(int32_t node, int32_t word) const;
  float spelling_score(int32_t state, int32_t symbol) const { return spelling_.scores[static_cast<size_t>(state) * spelling_.width + symbol]; }

  NgramTables ngrams_;
  SpellingTables spelling_;
  LexiconTables lexicon_;
  PieceTables pieces_;
  double alpha_, beta_, unknown_score_;
  bool letters_cost_;                // no letter makes a score higher
  std::vector<Spelling> beginnings_;  // of words, by their first token
  // By context and node of the lexicon, newest last: contexts come back, within a text and from text to text.
  std::vector<LookAhead> look_aheads_;
};

}  // namespace usmlite::decode
