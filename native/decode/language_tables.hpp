// The tables of language_scorer.hpp that follow from the n-grams and words of a language model. They are made when one is
// read: the default model has 1.6 million n-grams and 73,000 words.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace usmlite::decode {

/// Sets suffix[node] to the node of the same n-gram without its first word. `first_child`, one longer than `word`, rises from 1 at
/// node 0 to at most the number of nodes. False where an n-gram lacks such a node.
bool find_suffixes(std::span<const int32_t> word, std::span<const int32_t> first_child, std::span<int32_t> suffix);

/// Words as symbols: those of word i are [offsets[i], offsets[i + 1]).
struct SpelledWords {
  std::span<const int32_t> symbols, offsets;

  size_t count() const { return offsets.size() - 1; }
  std::span<const int32_t> word(size_t index) const { return symbols.subspan(offsets[index], offsets[index + 1] - offsets[index]); }
};

/// Symbols are `characters` characters, the end of a word and "any other character".
struct SpellingModel {
  std::vector<float> scores;       // (contexts, characters + 2): ln P(symbol | context)
  std::vector<int32_t> following;  // of the same shape: the context after the symbol
  int32_t start = 0;               // before the first character
};

/// A character n-gram with Witten-Bell smoothing (Witten and Bell 1991), in which each word counts once. Its contexts are all rows of up
/// to four symbols that precede a symbol in some word, the beginning of the word counted as one of them, shorter ones first. Throws
/// INVALID_ARGUMENT where a table of them would be too large, as for thousands of characters in all orders.
SpellingModel spelling_model(const SpelledWords& words, int32_t characters);

/// The words as a tree of characters: node 0 is its root.
struct Lexicon {
  std::vector<int32_t> children;                // (nodes, symbols), or -1
  std::vector<int32_t> word_at;                 // or -1
  std::vector<float> best_below;                // highest score of any word at or below each node
  std::vector<int32_t> first_below, end_below;  // these words are [first, end)
};

/// Of distinct words of symbols below `symbols`, those with the same beginning side by side, and a score for each.
Lexicon lexicon(const SpelledWords& words, std::span<const float> scores, int32_t symbols);

}  // namespace usmlite::decode
