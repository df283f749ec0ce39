#include "decode/language_tables.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.hpp"

namespace usmlite::decode {
namespace {

constexpr int kSpellingOrder = 5;           // characters seen at once, the predicted one included
constexpr size_t kMostSpellings = 1 << 27;  // contexts times symbols: 2 GiB while they are found; English has 1.5 million

/// The contexts of a spelling model, found by length.
class SpellingContexts {
 public:
  SpellingContexts(const SpelledWords& words, int32_t characters) : end_symbol_(characters), width_(characters + 2) {
    symbols_.reserve(words.symbols.size() + words.count());
    for (size_t i = 0; i < words.count(); ++i) {
      const std::span<const int32_t> word = words.word(i);
      symbols_.insert(symbols_.end(), word.begin(), word.end());
      symbols_.push_back(end_symbol_);
    }
    before_.assign(symbols_.size(), 0);
  }

  SpellingModel model() {
    SpellingModel model;
    std::vector<double> probabilities;  // (contexts, width)
    for (int length = 0; length < kSpellingOrder; ++length) {
      const auto end = static_cast<int32_t>(shorter_.size());
      if (row(end) > kMostSpellings) {
        throw Error(error_code::kInvalidArgument, "the words of the language model have " + std::to_string(end_symbol_) +
                                                      " different letters, which follow each other in too many ways to be kept");
      }
      count(probabilities);
      longer_.assign(static_cast<size_t>(end - first_) * end_symbol_, 0);
      for (int32_t context = first_; context < end; ++context) smooth(probabilities, context);
      if (length + 1 < kSpellingOrder) extend(length + 1);
      for (int32_t context = first_; context < end; ++context) follow(model.following, context);
      first_ = end;
    }
    model.scores.resize(probabilities.size());
    for (size_t i = 0; i < probabilities.size(); ++i) model.scores[i] = static_cast<float>(std::log(probabilities[i]));
    model.start = symbols_.empty() ? 0 : 1;  // the beginning of a word alone: the first context that a symbol has
    return model;
  }

 private:
  size_t row(int32_t context) const { return static_cast<size_t>(context) * width_; }

  /// How often each symbol follows each context of this length.
  void count(std::vector<double>& counts) const {
    counts.resize(row(static_cast<int32_t>(shorter_.size())));
    for (size_t place = 0; place < symbols_.size(); ++place) {
      if (before_[place] >= 0) ++counts[row(before_[place]) + symbols_[place]];
    }
  }

  /// Turns counts into P(s | context) = (count(s) + types P(s | shorter context)) / (total + types).
  void smooth(std::vector<double>& probabilities, int32_t context) const {
    double* const of = probabilities.data() + row(context);
    const double* const base = shorter_[context] < 0 ? nullptr : probabilities.data() + row(shorter_[context]);
    double types = 0, total = 0;
    for (int32_t symbol = 0; symbol < width_; ++symbol) {
      total += of[symbol];
      types += of[symbol] > 0;
    }
    if (total == 0) types = 1;  // no words at all: uniform
    for (int32_t symbol = 0; symbol < width_; ++symbol) {
      of[symbol] = (of[symbol] + types * (base ? base[symbol] : 1.0 / width_)) / (total + types);
    }
  }

  /// Finds the contexts of `length`: what precedes a symbol is what precedes the symbol before it, and that symbol.
  void extend(int length) {
    std::vector<int32_t> longer_before(symbols_.size(), -1);
    for (size_t place = 0; place < symbols_.size(); ++place) {
      const int32_t last = place == 0 ? end_symbol_ : symbols_[place - 1];
      if (last == end_symbol_) {
        if (length == 1) longer_before[place] = place == 0 ? add(before_[0]) : longer_before[0];
        continue;
      }
      const int32_t context = before_[place - 1];
      if (context < 0) continue;
      int32_t& found = longer_[static_cast<size_t>(context - first_) * end_symbol_ + last];
      if (found == 0) found = add(before_[place]);
      longer_before[place] = found;
    }
    before_ = std::move(longer_before);
  }

  int32_t add(int32_t shorter) {
    shorter_.push_back(shorter);
    return static_cast<int32_t>(shorter_.size()) - 1;
  }

  /// From the empty context a character that begins none leads back to it.
  void follow(std::vector<int32_t>& following, int32_t context) const {
    following.resize(row(context + 1));
    for (int32_t symbol = 0; symbol < end_symbol_; ++symbol) {
      const int32_t longer = longer_[static_cast<size_t>(context - first_) * end_symbol_ + symbol];
      const int32_t shorter = shorter_[context];
      following[row(context) + symbol] = longer ? longer : shorter < 0 ? context : following[row(shorter) + symbol];
    }
  }

  const int32_t end_symbol_, width_;
  std::vector<int32_t> symbols_;         // of all words, each with its end
  std::vector<int32_t> shorter_ = {-1};  // each context without its first symbol
  std::vector<int32_t> before_;          // of the last length, the context before each symbol; -1 where fewer symbols precede
  std::vector<int32_t> longer_;          // (contexts of the last length, characters): the context with one more symbol, or 0
  int32_t first_ = 0;                    // the first context of the last length
};

/// Of a tree of words: each adds those symbols that it does not share with the one before.
size_t nodes_of(const SpelledWords& words) {
  size_t nodes = 1;
  std::span<const int32_t> before;
  for (size_t i = 0; i < words.count(); ++i) {
    const std::span<const int32_t> word = words.word(i);
    nodes += word.end() - std::mismatch(word.begin(), word.end(), before.begin(), before.end()).first;
    before = word;
  }
  return nodes;
}

}  // namespace

bool find_suffixes(std::span<const int32_t> word, std::span<const int32_t> first_child, std::span<int32_t> suffix) {
  // Breadth first: the suffix of the parent is known when its children are reached.
  for (size_t node = 1; node < word.size(); ++node) {
    const int32_t shorter = suffix[node], last = first_child[shorter + 1];
    // Both have their children in the order of the words, so that each is found a little after the one before.
    int32_t place = first_child[shorter];
    for (int32_t child = first_child[node]; child < first_child[node + 1]; ++child) {
      const int32_t id = word[child];
      if (id < 0 || id >= static_cast<int64_t>(word.size())) return false;
      if (shorter == 0) {
        place = 1 + id;
      } else {
        int32_t step = 1;
        while (place + step < last && word[place + step] < id) step *= 2;
        const auto from = word.begin() + place + step / 2, to = word.begin() + std::min(place + step, last);
        place = static_cast<int32_t>(std::lower_bound(from, to, id) - word.begin());
      }
      if (place >= last || word[place] != id) return false;
      suffix[child] = place;
    }
  }
  return true;
}

SpellingModel spelling_model(const SpelledWords& words, int32_t characters) { return SpellingContexts(words, characters).model(); }

Lexicon lexicon(const SpelledWords& words, std::span<const float> scores, int32_t symbols) {
  const size_t nodes = nodes_of(words);
  const std::vector<int32_t> none(nodes, -1);
  Lexicon tree{std::vector<int32_t>(nodes * symbols, -1), none, std::vector<float>(nodes, -std::numeric_limits<float>::infinity()), none,
               std::vector<int32_t>(nodes)};
  const auto include = [&](int32_t node, int32_t word) {
    tree.best_below[node] = std::max(tree.best_below[node], scores[word]);
    if (tree.first_below[node] < 0) tree.first_below[node] = word;
    tree.end_below[node] = word + 1;
  };
  int32_t count = 1;
  for (int32_t word = 0; word < static_cast<int32_t>(words.count()); ++word) {
    int32_t node = 0;
    include(node, word);
    for (const int32_t symbol : words.word(word)) {
      int32_t& child = tree.children[static_cast<size_t>(node) * symbols + symbol];
      if (child < 0) child = count++;
      node = child;
      include(node, word);
    }
    tree.word_at[node] = word;
  }
  return tree;
}

}  // namespace usmlite::decode
