// What is made of a language model when it is read.
#include "decode/language_tables.hpp"

#include <algorithm>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/typed_arrays.hpp"

namespace usmlite::binding {
namespace {

constexpr size_t kMostNodes = 1 << 30;
constexpr const char* kModelNumbers = "numbers of a language model";

/// The first two arguments.
decode::SpelledWords words_argument(const Arguments& arguments, const Napi::CallbackInfo& info, int64_t symbols) {
  const decode::SpelledWords words{numbers_of<int32_t>(arguments, info[0], "symbols"), numbers_of<int32_t>(arguments, info[1], "offsets")};
  const auto outside = [&](int32_t symbol) { return symbol < 0 || symbol >= symbols; };
  if (std::any_of(words.symbols.begin(), words.symbols.end(), outside))
    arguments.fail("symbols must be from 0 to " + std::to_string(symbols - 1));
  if (words.offsets.empty() || words.offsets.front() != 0 || !std::is_sorted(words.offsets.begin(), words.offsets.end()) ||
      words.offsets.back() != static_cast<int64_t>(words.symbols.size())) {
    arguments.fail("offsets must rise from 0 to the number of symbols");
  }
  return words;
}

// ngramSuffixes(word, firstChild): Int32Array, or undefined where an n-gram lacks its suffix
Napi::Value ngram_suffixes(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "NgramLanguageModel", 2);
  const auto word = numbers_of<int32_t>(arguments, info[0], "word"), first_child = numbers_of<int32_t>(arguments, info[1], "firstChild");
  if (word.size() > kMostNodes || first_child.size() != word.size() + 1 || first_child[0] != std::min<int64_t>(1, word.size()) ||
      !std::is_sorted(first_child.begin(), first_child.end()) || first_child.back() > static_cast<int64_t>(word.size())) {
    arguments.fail("firstChild must rise from 1 to at most the number of n-grams, and be one longer");
  }
  auto suffix = new_array<int32_t>(info.Env(), word.size(), kModelNumbers);
  if (!decode::find_suffixes(word, first_child, {suffix.Data(), suffix.ElementLength()})) return info.Env().Undefined();
  return suffix;
}

// spellingTables(symbols, offsets, characters): {scores, following, start}
Napi::Value spelling_tables(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "SpellingModel", 3);
  const auto characters = static_cast<int32_t>(arguments.integer(2, "characters", 0, 1 << 21));
  const decode::SpellingModel model = decode::spelling_model(words_argument(arguments, info, characters), characters);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("scores", array_from(info.Env(), model.scores, kModelNumbers));
  result.Set("following", array_from(info.Env(), model.following, kModelNumbers));
  result.Set("start", Napi::Number::New(info.Env(), model.start));
  return result;
}

// lexiconTables(symbols, offsets, scores, width): {children, wordAt, bestBelow, firstBelow, endBelow}
Napi::Value lexicon_tables(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "Lexicon", 4);
  const auto width = static_cast<int32_t>(arguments.integer(3, "width", 0, 1 << 21));
  const decode::SpelledWords words = words_argument(arguments, info, width);
  const auto scores = numbers_of<float>(arguments, info[2], "scores");
  if (scores.size() != words.count()) arguments.fail("there must be a score for each word");
  const decode::Lexicon lexicon = decode::lexicon(words, scores, width);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("children", array_from(info.Env(), lexicon.children, kModelNumbers));
  result.Set("wordAt", array_from(info.Env(), lexicon.word_at, kModelNumbers));
  result.Set("bestBelow", array_from(info.Env(), lexicon.best_below, kModelNumbers));
  result.Set("firstBelow", array_from(info.Env(), lexicon.first_below, kModelNumbers));
  result.Set("endBelow", array_from(info.Env(), lexicon.end_below, kModelNumbers));
  return result;
}

}  // namespace

void define_language_tables(Napi::Object exports) {
  define<ngram_suffixes>(exports, "ngramSuffixes");
  define<spelling_tables>(exports, "spellingTables");
  define<lexicon_tables>(exports, "lexiconTables");
}

}  // namespace usmlite::binding
