// Features on the GPU: samples, their log-mel energies, and what is done with those of an utterance.
#include <limits>
#include <string>
#include <vector>

#include "cuda/feature_scaling.hpp"
#include "cuda/log_mel.hpp"
#include "cuda/pinned_memory.hpp"
#include "cuda/spec_augment.hpp"
#include "napi/arguments.hpp"
#include "napi/cuda_handles.hpp"
#include "napi/groups.hpp"
#include "napi/log_mel_argument.hpp"

namespace usmlite::binding {
namespace {

using cuda::DeviceTensor;
using cuda::DeviceType;

constexpr napi_type_tag kTablesTag = {0x5ce1a90b7f3d4862ull, 0xb49e07d2168ca53full};

cuda::LogMelTables& tables_argument(const Arguments& arguments, Napi::Value value) {
  if (!value.IsExternal() || !value.As<Napi::External<cuda::LogMelTables>>().CheckTypeTag(&kTablesTag)) {
    arguments.fail("the first argument must be a log-mel front end on the GPU");
  }
  return *value.As<Napi::External<cuda::LogMelTables>>().Data();
}

// deviceLogMelCreate(plan): the tables of a log-mel plan; freed by the garbage collector
Napi::Value log_mel_create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceLogMel", 1);
  auto tables = std::make_unique<cuda::LogMelTables>(log_mel_argument(arguments, info[0]));
  auto external = Napi::External<cuda::LogMelTables>::New(info.Env(), tables.get(), [](Napi::Env, cuda::LogMelTables* owned) { delete owned; });
  tables.release();
  external.TypeTag(&kTablesTag);
  return external;
}

// deviceSamples(utterances, stream?): float32 (n), what is in the Float32Arrays, one behind the other
Napi::Value samples(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSamples", 1);
  if (!info[0].IsArray()) arguments.fail("utterances must be an array of Float32Array");
  const auto array = info[0].As<Napi::Array>();
  std::vector<Napi::Float32Array> utterances;
  int64_t count = 0;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value value = array[i];
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
      arguments.fail("utterances must be an array of Float32Array");
    }
    utterances.push_back(value.As<Napi::Float32Array>());
    count += static_cast<int64_t>(utterances.back().ElementLength());
  }
  if (count > std::numeric_limits<int32_t>::max()) arguments.fail("there are " + std::to_string(count) + " samples; at most 2^31 - 1 go at once");
  const auto stream = stream_argument(arguments, info, 1);
  DeviceTensor all(DeviceType::kFloat32, {count}, stream);
  int64_t begin = 0;
  for (const auto& utterance : utterances) {
    const auto length = static_cast<int64_t>(utterance.ElementLength());
    const size_t bytes = static_cast<size_t>(length) * sizeof(float);
    if (length) cuda::copy_from_host(all.use_on<float>(stream) + begin, bytes, utterance.Data(), bytes, 1, stream);
    begin += length;
  }
  return wrap(info.Env(), std::move(all));
}

// deviceLogMel(tables, samples float32 (n) on the GPU, sampleOffsets int32 (sequences + 1), frames, before, preemphasis, fullScale,
// mirroredWindow, stream?): float32
Napi::Value log_mel(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceLogMel.features", 8);
  auto& tables = tables_argument(arguments, info[0]);
  const auto samples = DeviceTensorObject::from(arguments, info[1], "samples");
  if (samples->type() != DeviceType::kFloat32 || samples->shape().size() != 1) arguments.fail("samples must be float32 and have one axis");
  const Tensor& offsets = arguments.offsets(2, "sampleOffsets", samples->columns());
  const auto frames = DeviceSequencesObject::from(arguments, info[3], "frames");
  if (offsets.count() != frames->count() + 1)
    arguments.fail("there are samples of " + std::to_string(offsets.count() - 1) + " utterances but frames of " + std::to_string(frames->count()));
  const cuda::Framing framing{arguments.integer(4, "before", 0, 1 << 16), arguments.number(5, "preemphasis", 0, 1),
                              arguments.number(6, "fullScale", 0, 1 << 30), arguments.integer(7, "mirroredWindow", 0, 1 << 30)};
  const auto stream = stream_argument(arguments, info, 8);
  DeviceTensor features(DeviceType::kFloat32, {frames->frames(), tables.settings().mel_bins}, stream);
  tables.features(*samples, offsets.i32(), *frames, framing, features, stream);
  return wrap(info.Env(), std::move(features));
}

std::shared_ptr<cuda::DeviceSequences> frames_of(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index,
                                                 const DeviceTensor& features) {
  auto sequences = DeviceSequencesObject::from(arguments, info[index], "sequences");
  if (sequences->frames() != features.shape()[0]) {
    arguments.fail("the sequences have " + std::to_string(sequences->frames()) + " frames but features have shape " + shape_text(features.shape()));
  }
  return sequences;
}

void check_float32(const Arguments& arguments, const DeviceTensor& features) {
  if (features.type() != DeviceType::kFloat32)
    arguments.fail(std::string("features are ") + cuda::name_of(features.type()) + "; they must be float32");
}

// deviceNormaliseColumns(features float32 (frames, bins) or (frames), sequences, stacked, framesPerStacked, addedVariance, addedDeviation,
// varianceOfSample, stream?): float32 (frames of stacked, bins * framesPerStacked) or (frames)
Napi::Value normalise_columns(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceNormaliseColumns", 7);
  const auto features = DeviceTensorObject::from(arguments, info[0], "features");
  const bool one_column = features->shape().size() == 1;
  check_float32(arguments, *features);
  const auto sequences = frames_of(arguments, info, 1, *features);
  const auto stacked = DeviceSequencesObject::from(arguments, info[2], "stacked");
  const int64_t per_frame = arguments.integer(3, "framesPerStacked", 1, one_column ? 1 : 16);
  if (stacked->count() != sequences->count()) {
    arguments.fail("there are " + std::to_string(sequences->count()) + " sequences but " + std::to_string(stacked->count()) + " stacked ones");
  }
  for (int i = 0; i < sequences->count(); ++i) {
    const int64_t frames = sequences->offsets()[i + 1] - sequences->offsets()[i], wanted = stacked->offsets()[i + 1] - stacked->offsets()[i];
    if (wanted != frames / per_frame) {
      arguments.fail("sequence " + std::to_string(i) + " has " + std::to_string(frames) + " frames, which make " +
                     std::to_string(frames / per_frame) + ", not " + std::to_string(wanted));
    }
  }
  const cuda::Normalisation normalisation{arguments.number(4, "addedVariance", 0, 1), arguments.number(5, "addedDeviation", 0, 1),
                                          arguments.boolean(6, "varianceOfSample")};
  const auto stream = stream_argument(arguments, info, 7);
  DeviceTensor result(DeviceType::kFloat32, one_column ? features->shape() : std::vector<int64_t>{stacked->frames(), features->columns() * per_frame}, stream);
  cuda::normalise_columns(*features, sequences->use_on(stream), normalisation, result, stacked->use_on(stream), static_cast<int>(per_frame), stream);
  return wrap(info.Env(), std::move(result));
}

// deviceLimitRange(features float32 (frames, bins), sequences, range, stream?): in place
Napi::Value limit_range(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceLimitRange", 3);
  const auto features = DeviceTensorObject::from(arguments, info[0], "features");
  check_float32(arguments, *features);
  if (features->shape().size() != 2) arguments.fail("features have shape " + shape_text(features->shape()) + "; they must be a matrix");
  const auto sequences = frames_of(arguments, info, 1, *features);
  const auto stream = stream_argument(arguments, info, 3);
  cuda::limit_range(*features, sequences->use_on(stream), arguments.number(2, "range", 0, 1e3), stream);
  return info.Env().Undefined();
}

// deviceSpecAugment(features, sequences, intervals, offsets (2 sequences + 1), stream?): in place
Napi::Value spec_augment(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSpecAugment", 4);
  const auto features = DeviceTensorObject::from(arguments, info[0], "features");
  if (features->type() != DeviceType::kFloat32 && features->type() != DeviceType::kBFloat16) {
    arguments.fail(std::string("features are ") + cuda::name_of(features->type()) + "; they must be float32 or bfloat16");
  }
  if (features->shape().size() != 2) arguments.fail("features have shape " + shape_text(features->shape()) + "; they must be a matrix");
  const auto sequences = frames_of(arguments, info, 1, *features);
  const std::vector<int64_t> bounds = arguments.integers(2, "intervals", 0, int64_t{1} << 30);
  const std::vector<int64_t> offsets = arguments.integers(3, "offsets", 0, static_cast<int64_t>(bounds.size() / 2));
  if (offsets.size() != 2 * static_cast<size_t>(sequences->count()) + 1) {
    arguments.fail("there are masks of " + std::to_string(offsets.size() / 2) + " utterances but " + std::to_string(sequences->count()) +
                   " sequences");
  }
  cuda::Masks masks{{offsets.begin(), offsets.end()}, {bounds.begin(), bounds.end()}};
  for (size_t kind = 0; kind + 1 < offsets.size(); ++kind) {
    const size_t sequence = kind / 2;
    const int64_t extent = kind % 2 == 0 ? features->columns() : sequences->offsets()[sequence + 1] - sequences->offsets()[sequence];
    for (int64_t i = offsets[kind]; i < offsets[kind + 1]; ++i) {
      if (bounds[2 * i] > bounds[2 * i + 1] || bounds[2 * i + 1] > extent) {
        arguments.fail("mask " + std::to_string(bounds[2 * i]) + " to " + std::to_string(bounds[2 * i + 1]) + " of sequence " +
                       std::to_string(sequence) + " does not lie within its " + std::to_string(extent) + (kind % 2 == 0 ? " bins" : " frames"));
      }
    }
  }
  const auto stream = stream_argument(arguments, info, 4);
  cuda::spec_augment(*features, sequences->use_on(stream), masks, stream);
  return info.Env().Undefined();
}

}  // namespace

void define_device_features(Napi::Object exports) {
  define<log_mel_create>(exports, "deviceLogMelCreate");
  define<log_mel>(exports, "deviceLogMel");
  define<samples>(exports, "deviceSamples");
  define<normalise_columns>(exports, "deviceNormaliseColumns");
  define<limit_range>(exports, "deviceLimitRange");
  define<spec_augment>(exports, "deviceSpecAugment");
}

}  // namespace usmlite::binding
