// Where packed sequences lie, on the GPU.
#include "cuda/device_sequences.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

constexpr int64_t kMostSequences = 65535;  // blocks of a grid in y and z

std::vector<int32_t> offsets_argument(const Arguments& arguments, size_t index) {
  const Tensor& offsets = arguments.tensor(index, "offsets", DType::kInt32, {kAny});
  const int64_t frames = offsets.count() ? offsets.i32()[offsets.count() - 1] : 0;
  arguments.offsets(index, "offsets", frames);
  if (offsets.count() > kMostSequences + 1) {
    arguments.fail("there are " + std::to_string(offsets.count() - 1) + " sequences; on the GPU there can be " + std::to_string(kMostSequences) +
                   " in a batch");
  }
  return {offsets.i32(), offsets.i32() + offsets.count()};
}

// As many as the last of `offsets`, none below 0.
std::vector<int32_t> rows_argument(const Arguments& arguments, size_t index, const std::vector<int32_t>& offsets) {
  const Tensor& given = arguments.tensor(index, "rows", DType::kInt32, {offsets.back()});
  std::vector<int32_t> rows(given.i32(), given.i32() + given.count());
  for (const int32_t row : rows) {
    if (row < 0) arguments.fail("rows names row " + std::to_string(row));
  }
  return rows;
}

// deviceSequencesCreate(offsets int32 (sequences + 1), rows int32?, stream?)
Napi::Value sequences_create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceSequences", 1);
  std::vector<int32_t> offsets = offsets_argument(arguments, 0);
  const auto stream = stream_argument(arguments, info, 2);
  if (!arguments.has(1)) return DeviceSequencesObject::wrap(info.Env(), std::make_shared<cuda::DeviceSequences>(std::move(offsets), stream));
  const std::vector<int32_t> rows = rows_argument(arguments, 1, offsets);
  return DeviceSequencesObject::wrap(info.Env(), std::make_shared<cuda::DeviceSequences>(std::move(offsets), rows, stream));
}

// deviceSequencesRefill(sequences, offsets int32 (sequences + 1), rows int32?, stream?): other sequences, none longer than what there is room for
Napi::Value sequences_refill(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceSequences.refill", 2);
  const auto sequences = DeviceSequencesObject::from(arguments, info[0], "sequences");
  const std::vector<int32_t> offsets = offsets_argument(arguments, 1);
  bool fits = offsets.size() == sequences->offsets().size() && offsets.back() <= sequences->frames();
  for (size_t i = 1; fits && i < offsets.size(); ++i) fits = offsets[i] - offsets[i - 1] <= sequences->longest();
  if (!fits) {
    arguments.fail("there is room for " + std::to_string(sequences->count()) + " sequences of at most " +
                   std::to_string(sequences->longest()) + " frames, " + std::to_string(sequences->frames()) + " in all");
  }
  if (arguments.has(2) != sequences->has_rows()) arguments.fail("rows must be given where there were some, and only there");
  const std::vector<int32_t> rows = arguments.has(2) ? rows_argument(arguments, 2, offsets) : std::vector<int32_t>{};
  for (const int32_t row : rows) {
    if (row >= sequences->rows_end())
      arguments.fail("rows names row " + std::to_string(row) + " but there are " + std::to_string(sequences->rows_end()));
  }
  sequences->refill(offsets, rows, stream_argument(arguments, info, 3));
  return info.Env().Undefined();
}

// deviceSequencesShorten(sequences, kernel, stride, padding, stream?): where they lie after a convolution
Napi::Value sequences_shorten(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceSequences.shorten", 4);
  const auto sequences = DeviceSequencesObject::from(arguments, info[0], "sequences");
  const auto number = [&](size_t index, const char* name, int64_t least) {
    return static_cast<int>(arguments.integer(index, name, least, 1 << 16));
  };
  const cuda::Shortening shortening{number(1, "kernel", 1), number(2, "stride", 1), number(3, "padding", 0)};
  return DeviceSequencesObject::wrap(
      info.Env(), std::make_shared<cuda::DeviceSequences>(*sequences, shortening, stream_argument(arguments, info, 4)));
}

}  // namespace

void define_device_sequences(Napi::Env env, Napi::Object exports) {
  DeviceSequencesObject::define(env, exports, "DeviceSequencesHandle");
  define<sequences_create>(exports, "deviceSequencesCreate");
  define<sequences_refill>(exports, "deviceSequencesRefill");
  define<sequences_shorten>(exports, "deviceSequencesShorten");
}

}  // namespace usmlite::binding
