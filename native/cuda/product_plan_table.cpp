#include "cuda/product_plan_table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/kernel_architecture.hpp"

namespace usmlite::cuda {
namespace {

constexpr ProductPlanRow kRowsOfSm90[] = {
#include "cuda/product_plans_sm90.inc"
    {"", 0, 0, ""},
};

/// The rows of a table in a file: `{"kind", outputs, inputs, "plans"},` each; other lines are left out.
std::vector<ProductPlanRow> rows_of_file(const char* path) {
  std::vector<ProductPlanRow> rows;
  std::ifstream file(path);
  static auto* const lines = new std::deque<std::string>;  // what the rows refer to
  for (std::string line; std::getline(file, line);) {
    const size_t kind_end = line.find('"', 2), plans_end = line.rfind('"'),
                 plans = plans_end == std::string::npos ? plans_end : line.rfind('"', plans_end - 1);
    int outputs = 0, inputs = 0;
    if (!line.starts_with("{\"") || kind_end == std::string::npos || plans == std::string::npos || plans <= kind_end) continue;
    if (std::sscanf(line.c_str() + kind_end + 1, ", %d, %d,", &outputs, &inputs) != 2) continue;
    const std::string_view kept = lines->emplace_back(line);
    rows.push_back({kept.substr(2, kind_end - 2), outputs, inputs, kept.substr(plans + 1, plans_end - plans - 1)});
  }
  return rows;
}

using Table = std::map<std::tuple<std::string_view, int, int>, ProductPlanRow>;

Table table_of(std::span<const ProductPlanRow> rows) {
  Table table;
  for (const ProductPlanRow& row : rows) table.emplace(std::tuple{row.kind, row.outputs, row.inputs}, row);
  return table;
}

const Table& table() {
  static const char* const path = std::getenv("USMLITE_PRODUCT_PLANS");
  static const Table of_file = path ? table_of(rows_of_file(path)) : Table(), of_sm90 = table_of(kRowsOfSm90), none;
  return path ? of_file : kernel_architecture() == 90 ? of_sm90 : none;
}

const ProductPlanRow* find_row(std::string_view kind, int outputs, int inputs) {
  const auto found = table().find({kind, size_class(outputs), size_class(inputs)});
  return found == table().end() ? nullptr : &found->second;
}

}  // namespace

const ProductPlanRow* find_product_plan_row(const WeightView& weight) {
  return find_row(weight_kind(weight), weight.channels, weight.inputs);
}

std::string_view dense_way(int channels, int inputs, int tokens) {
  const ProductPlanRow* const row = find_row("dense", channels, inputs);
  return row ? word_at(row->plans, token_class(tokens)) : std::string_view();
}

std::string_view word_at(std::string_view words, int index) {
  for (; index > 0; --index) {
    const size_t space = words.find(' ');
    if (space == std::string_view::npos) break;
    words.remove_prefix(space + 1);
  }
  return words.substr(0, words.find(' '));
}

std::string_view weight_kind(const WeightView& w) {
  const bool sparse = w.sparse;
  if (w.arithmetic == Arithmetic::kInt8) {
    switch (w.codes) {
      case Codes::kInt8: return sparse ? "int8+2:4 int8" : "int8 int8";
      case Codes::kInt4: return sparse ? "int4+2:4 int8" : "int4 int8";
      default: return "other";
    }
  }
  if (w.arithmetic == Arithmetic::kFloat8) return "other";
  switch (w.codes) {
    case Codes::kFloat16Bit: return sparse ? "float32+2:4 bfloat16" : "float32 bfloat16";
    case Codes::kInt8: return sparse ? "other" : "int8 bfloat16";
    case Codes::kInt4: return sparse ? "int4+2:4 bfloat16" : "int4 bfloat16";
    default: return "other";
  }
}

int size_class(int size) { return static_cast<int>(std::lround(2.0 * std::log2(static_cast<double>(std::max(size, 1))))); }

int token_class(int tokens) {
  const auto last = std::prev(std::end(kTokenClasses));
  return static_cast<int>(std::lower_bound(std::begin(kTokenClasses), last, tokens) - std::begin(kTokenClasses));
}

}  // namespace usmlite::cuda
