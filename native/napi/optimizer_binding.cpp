#include "cpu/optimizer.hpp"

#include <cstring>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

void check_same_sizes(const Arguments& arguments, const std::vector<Tensor>& tensors, const char* name,
                      const std::vector<Tensor>& like) {
  if (tensors.size() != like.size()) {
    arguments.fail(std::string(name) + " has " + std::to_string(tensors.size()) + " tensors but there are " +
                   std::to_string(like.size()) + " parameters");
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].shape() != like[i].shape()) {
      arguments.fail(std::string(name) + "[" + std::to_string(i) + "] has shape " + shape_text(tensors[i].shape()) +
                     " but its parameter has " + shape_text(like[i].shape()));
    }
  }
}

// One float64 per tensor.
std::vector<double> doubles(const Arguments& arguments, size_t index, const char* name, size_t count) {
  const auto bytes = arguments.bytes(index, name);
  if (bytes.size != count * sizeof(double)) {
    arguments.fail(std::string(name) + " must be a Float64Array with one number per parameter");
  }
  std::vector<double> values(count);
  if (count) std::memcpy(values.data(), bytes.data, bytes.size);
  return values;
}

// adamw(parameters, gradients, firstMoments, secondMoments, learningRates, weightDecays, beta1, beta2, epsilon,
//       firstCorrection, secondCorrection, gradientScale)
Napi::Value adamw(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "adamw", 12);
  const auto values = arguments.tensors(0, "parameters", DType::kFloat32);
  const auto gradients = arguments.tensors(1, "gradients", DType::kFloat32);
  const auto first = arguments.tensors(2, "firstMoments", DType::kFloat32);
  const auto second = arguments.tensors(3, "secondMoments", DType::kFloat32);
  check_same_sizes(arguments, gradients, "gradients", values);
  check_same_sizes(arguments, first, "firstMoments", values);
  check_same_sizes(arguments, second, "secondMoments", values);
  const auto rates = doubles(arguments, 4, "learningRates", values.size());
  const auto decays = doubles(arguments, 5, "weightDecays", values.size());
  const auto scalar = [&](size_t index, const char* name, double low, double high) {
    return static_cast<float>(arguments.number(index, name, low, high));
  };
  const cpu::AdamWStep step{scalar(6, "beta1", 0, 1),           scalar(7, "beta2", 0, 1),
                            scalar(8, "epsilon", 0, 1),         scalar(9, "firstCorrection", 1e-12, 1),
                            scalar(10, "secondCorrection", 1e-12, 1), scalar(11, "gradientScale", 0, 1e30)};
  std::vector<cpu::AdamWParameter> parameters;
  for (size_t i = 0; i < values.size(); ++i) {
    parameters.push_back({values[i].f32(), gradients[i].f32(), first[i].f32(), second[i].f32(), values[i].count(),
                          static_cast<float>(rates[i]), static_cast<float>(decays[i])});
  }
  cpu::adamw(parameters.data(), static_cast<int64_t>(parameters.size()), step);
  return info.Env().Undefined();
}

// sumOfSquares(tensors) -> number
Napi::Value sum_of_squares(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "sumOfSquares", 1);
  const auto tensors = arguments.tensors(0, "tensors", DType::kFloat32);
  std::vector<cpu::Span> spans;
  for (const Tensor& tensor : tensors) spans.push_back({tensor.f32(), tensor.count()});
  return Napi::Number::New(info.Env(), cpu::sum_of_squares(spans.data(), static_cast<int64_t>(spans.size())));
}

// updateAverage(averages, parameters, decay)
Napi::Value update_average(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "updateAverage", 3);
  const auto averages = arguments.tensors(0, "averages", DType::kFloat32);
  const auto values = arguments.tensors(1, "parameters", DType::kFloat32);
  check_same_sizes(arguments, averages, "averages", values);
  const float decay = static_cast<float>(arguments.number(2, "decay", 0, 1));
  std::vector<cpu::AverageParameter> parameters;
  for (size_t i = 0; i < values.size(); ++i) {
    parameters.push_back({averages[i].f32(), values[i].f32(), values[i].count()});
  }
  cpu::update_average(parameters.data(), static_cast<int64_t>(parameters.size()), decay);
  return info.Env().Undefined();
}

}  // namespace

void define_optimizer(Napi::Object exports) {
  define<adamw>(exports, "adamw");
  define<sum_of_squares>(exports, "sumOfSquares");
  define<update_average>(exports, "updateAverage");
}

}  // namespace usmlite::binding
