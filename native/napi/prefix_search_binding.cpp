// Beam search over the output of a CTC network, and the language model that it asks.
#include "decode/prefix_search.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/thread_pool.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/object_handle.hpp"
#include "napi/typed_arrays.hpp"

namespace usmlite::binding {
namespace {

/// A typed array whose memory native code reads while JavaScript keeps it, for as long as nobody transfers it elsewhere.
class HeldArray {
 public:
  HeldArray(Napi::TypedArray array, const void* data) : array_(Napi::Persistent(array)), data_(data), bytes_(array.ByteLength()) {}
  bool is_there() const { return array_.Value().ByteLength() == bytes_; }
  const void* data() const { return data_; }

 private:
  Napi::Reference<Napi::TypedArray> array_;
  const void* data_;
  size_t bytes_;
};

/// A scorer whose tables lie in JavaScript.
struct HeldScorer {
  std::vector<HeldArray> arrays;
  std::unique_ptr<decode::LanguageScorer> scorer;
};

/// A search, and what it asks. The garbage collector is told that more hangs on the small object that it sees.
struct HeldSearch {
  static constexpr int64_t kBytes = 64 << 10;  // about what the sequences of a frame take

  HeldSearch(Napi::Env env, int32_t tokens) : env(env), tokens(tokens) { Napi::MemoryManagement::AdjustExternalMemory(env, kBytes); }
  ~HeldSearch() { Napi::MemoryManagement::AdjustExternalMemory(env, -kBytes); }
  HeldSearch(const HeldSearch&) = delete;

  Napi::Env env;
  int32_t tokens;
  std::shared_ptr<HeldScorer> scorer;
  std::unique_ptr<decode::PrefixSearch> search;
};

}  // namespace

template <> struct HandleKind<HeldScorer> {
  static constexpr const char* kName = "scorer of a language model";
  static constexpr napi_type_tag kTag = {0x7a4c19e05bd3f826ull, 0x9c02e8d7415f6b3aull};
  static constexpr auto kConstructor = &Environment::language_scorer_constructor;
};
template <> struct HandleKind<HeldSearch> {
  static constexpr const char* kName = "prefix search";
  static constexpr napi_type_tag kTag = {0x18d6f3b92ec7405aull, 0xa5e9704c1b82d63full};
  static constexpr auto kConstructor = &Environment::prefix_search_constructor;
};

namespace {

using ScorerObject = ObjectHandle<HeldScorer>;
using SearchObject = ObjectHandle<HeldSearch>;

/// The tables of a scorer, by name.
class Tables {
 public:
  Tables(const Arguments& arguments, Napi::Object object, std::vector<HeldArray>& held) : arguments_(arguments), object_(object), held_(held) {}

  template <typename T> std::span<const T> operator()(const char* name) {
    const auto array = array_of<T>(arguments_, object_.Get(name), name);
    held_.emplace_back(array, array.Data());
    return {array.Data(), array.ElementLength()};
  }
  int32_t number(const char* name) const {
    const Napi::Value value = object_.Get(name);
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number < 2147483648.0 && number == std::floor(number)))
      arguments_.fail(std::string(name) + " must be a whole number from 0");
    return static_cast<int32_t>(number);
  }

 private:
  const Arguments& arguments_;
  Napi::Object object_;
  std::vector<HeldArray>& held_;
};

// languageScorerCreate(tables, alpha, beta)
Napi::Value create_scorer(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "LanguageModelScorer", 3);
  if (!info[0].IsObject()) arguments.fail("the tables must be an object");
  const auto scorer = std::make_shared<HeldScorer>();
  Tables tables(arguments, info[0].As<Napi::Object>(), scorer->arrays);
  const decode::NgramTables ngrams = {tables.operator()<int32_t>("word"), tables.operator()<int32_t>("firstChild"),
                                      tables.operator()<int32_t>("suffix"), tables.operator()<uint8_t>("probability"),
                                      tables.operator()<uint8_t>("backoff"), tables.number("start"), tables.number("firstOfLongest")};
  const decode::SpellingTables spelling = {tables.operator()<float>("spellingScores"), tables.operator()<int32_t>("spellingFollowing"),
                                           tables.number("spellingWidth"), tables.number("spellingStart"), tables.number("endSymbol")};
  const decode::LexiconTables lexicon = {tables.operator()<int32_t>("lexiconChildren"), tables.operator()<int32_t>("wordAt"),
                                         tables.operator()<float>("bestBelow"), tables.operator()<int32_t>("firstBelow"),
                                         tables.operator()<int32_t>("endBelow"), tables.number("lexiconSymbols")};
  const auto offsets = tables.operator()<int32_t>("pieceOffsets"), symbols = tables.operator()<int32_t>("pieceSymbols");
  const auto begins = tables.operator()<uint8_t>("beginsWord");
  decode::PieceTables pieces{{offsets.begin(), offsets.end()}, {symbols.begin(), symbols.end()}, {begins.begin(), begins.end()}};
  if (pieces.offsets.empty()) arguments.fail("pieceOffsets must not be empty");
  const double alpha = arguments.number(1, "alpha", -1e30, 1e30), beta = arguments.number(2, "beta", -1e30, 1e30);
  scorer->scorer = std::make_unique<decode::LanguageScorer>(ngrams, spelling, lexicon, std::move(pieces), alpha, beta);
  return ScorerObject::wrap(info.Env(), scorer);
}

// prefixSearchCreate(tokens, blank, allowed, beamWidth, beamThreshold, tokenThreshold, maximumTokens, blankPenalty, scorer?)
Napi::Value create_search(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "CtcBeamSearch", 8);
  constexpr double kMost = std::numeric_limits<double>::infinity();
  // Limits above what can be are none.
  const auto limit = [&](size_t index, const char* name) { return static_cast<size_t>(std::min(arguments.number(index, name, 1, kMost), 1e9)); };
  decode::PrefixSearchOptions options;
  options.tokens = static_cast<int32_t>(arguments.integer(0, "tokens", 1, 1 << 24));
  options.blank = static_cast<int32_t>(arguments.integer(1, "blank", 0, options.tokens - 1));
  const auto allowed = array_of<int32_t>(arguments, info[2], "allowed");
  options.allowed.assign(allowed.Data(), allowed.Data() + allowed.ElementLength());
  for (const int32_t id : options.allowed) {
    if (id < 0 || id >= options.tokens) arguments.fail("allowed tokens must be from 0 to " + std::to_string(options.tokens - 1));
  }
  // The search takes each token once: a sequence that entered the beam twice would leave it twice.
  if (std::adjacent_find(options.allowed.begin(), options.allowed.end(), std::greater_equal<>()) != options.allowed.end()) {
    arguments.fail("allowed tokens must be in ascending order, each once");
  }
  options.beam_width = limit(3, "beamWidth");
  options.beam_threshold = arguments.number(4, "beamThreshold", 0, kMost);
  options.token_threshold = arguments.number(5, "tokenThreshold", 0, kMost);
  options.maximum_tokens = limit(6, "maximumTokens");
  options.blank_penalty = arguments.number(7, "blankPenalty", 0, kMost);
  const auto held = std::make_shared<HeldSearch>(info.Env(), options.tokens);
  std::shared_ptr<decode::LanguageScorer> scorer;
  if (arguments.has(8)) {
    held->scorer = ScorerObject::from(arguments, info[8], "scorer");
    if (held->scorer->scorer->tokens() != options.tokens) arguments.fail("the scorer was made for another tokenizer");
    scorer = std::shared_ptr<decode::LanguageScorer>(held->scorer, held->scorer->scorer.get());
  }
  held->search = std::make_unique<decode::PrefixSearch>(std::move(options), std::move(scorer));
  return SearchObject::wrap(info.Env(), held);
}

std::shared_ptr<HeldSearch> search_from(const Arguments& arguments, Napi::Value value) {
  auto held = SearchObject::from(arguments, value, "search");
  if (held->scorer) {
    for (const HeldArray& array : held->scorer->arrays) {
      if (!array.is_there()) arguments.fail("the tables of the language model were transferred elsewhere");
    }
  }
  return held;
}

std::shared_ptr<HeldSearch> search_argument(const Arguments& arguments, const Napi::CallbackInfo& info) {
  return search_from(arguments, info[0]);
}

// prefixSearchesAdvance(searches, values (frames, tokens) of each): on all threads
Napi::Value advance(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "CtcBeamSearch.advance", 2);
  if (!info[0].IsArray() || !info[1].IsArray()) arguments.fail("searches and values must be arrays");
  const auto searches = info[0].As<Napi::Array>(), values = info[1].As<Napi::Array>();
  if (searches.Length() != values.Length()) arguments.fail("there must be values for each search");
  struct Work { std::shared_ptr<HeldSearch> held; const float* values; int64_t frames; };
  std::vector<Work> work;
  for (uint32_t i = 0; i < searches.Length(); ++i) {
    auto held = search_from(arguments, searches.Get(i));
    for (const Work& other : work) {
      if (other.held == held) arguments.fail("a search can be advanced once in a call");
    }
    const auto rows = array_of<float>(arguments, values.Get(i), "values");
    if (rows.ElementLength() % held->tokens != 0) arguments.fail("values must be whole frames of " + std::to_string(held->tokens) + " numbers");
    const int64_t frames = static_cast<int64_t>(rows.ElementLength()) / held->tokens;
    work.push_back({std::move(held), rows.Data(), frames});
  }
  parallel_dynamic(static_cast<int64_t>(work.size()), [&](int64_t i) { work[i].held->search->advance(work[i].values, work[i].frames); });
  return info.Env().Undefined();
}

// prefixSearchRanked(search) -> {totals, scores, ends, ids, firstFrames, endFrames, peaks}, the best sequence first; the tokens of
// sequence i are [ends[i - 1], ends[i])
Napi::Value ranked(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "CtcBeamSearch.best", 1);
  const Napi::Env env = info.Env();
  const std::vector<decode::RankedPrefix> all = search_argument(arguments, info)->search->ranked();
  size_t tokens = 0;
  for (const decode::RankedPrefix& one : all) tokens += one.ids.size();
  auto totals = Napi::Float64Array::New(env, all.size()), scores = Napi::Float64Array::New(env, all.size());
  auto ends = Napi::Int32Array::New(env, all.size());
  auto ids = Napi::Int32Array::New(env, tokens), first = Napi::Int32Array::New(env, tokens), end = Napi::Int32Array::New(env, tokens);
  auto peaks = Napi::Float64Array::New(env, tokens);
  size_t token = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    totals.Data()[i] = all[i].total;
    scores.Data()[i] = all[i].score;
    for (size_t j = 0; j < all[i].ids.size(); ++j, ++token) {
      const decode::Alignment& alignment = all[i].alignments[j];
      ids.Data()[token] = all[i].ids[j];
      first.Data()[token] = alignment.first_frame;
      end.Data()[token] = alignment.end_frame;
      peaks.Data()[token] = alignment.peak;
    }
    ends.Data()[i] = static_cast<int32_t>(token);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("totals", totals);
  result.Set("scores", scores);
  result.Set("ends", ends);
  result.Set("ids", ids);
  result.Set("firstFrames", first);
  result.Set("endFrames", end);
  result.Set("peaks", peaks);
  return result;
}

// prefixSearchSettled(search) -> ids
Napi::Value settled(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "CtcBeamSearch.settledText", 1);
  return array_from(info.Env(), search_argument(arguments, info)->search->settled(), "tokens");
}

// prefixSearchSettleBefore(search, frame)
Napi::Value settle_before(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "CtcBeamSearch.settleBefore", 2);
  const double frame = arguments.number(1, "frame", -1e15, 1e15);
  search_argument(arguments, info)->search->settle_before(static_cast<int32_t>(std::clamp(std::ceil(frame), -1.0, 2147483647.0)));
  return info.Env().Undefined();
}

}  // namespace

void define_prefix_search(Napi::Env env, Napi::Object exports) {
  ScorerObject::define(env, exports, "LanguageScorerHandle");
  SearchObject::define(env, exports, "PrefixSearchHandle");
  define<create_scorer>(exports, "languageScorerCreate");
  define<create_search>(exports, "prefixSearchCreate");
  define<advance>(exports, "prefixSearchesAdvance");
  define<ranked>(exports, "prefixSearchRanked");
  define<settled>(exports, "prefixSearchSettled");
  define<settle_before>(exports, "prefixSearchSettleBefore");
}

}  // namespace usmlite::binding
