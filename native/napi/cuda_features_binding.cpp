// Features on the GPU: log-mel energies of samples, and masks over them.
#include "cuda/log_mel.hpp"
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

// deviceLogMel(tables, samples float32 (n) on the GPU, sampleOffsets int32 (sequences + 1), frames, before, preemphasis, stream?): float32
Napi::Value log_mel(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "DeviceLogMel.features", 6);
  auto& tables = tables_argument(arguments, info[0]);
  const auto samples = DeviceTensorObject::from(arguments, info[1], "samples");
  if (samples->type() != DeviceType::kFloat32 || samples->shape().size() != 1) arguments.fail("samples must be float32 and have one axis");
  const Tensor& offsets = arguments.offsets(2, "sampleOffsets", samples->columns());
  const auto frames = DeviceSequencesObject::from(arguments, info[3], "frames");
  if (offsets.count() != frames->count() + 1) arguments.fail("there are samples of " + std::to_string(offsets.count() - 1) + " utterances but frames of " + std::to_string(frames->count()));
  const cuda::Framing framing{arguments.integer(4, "before", 0, 1 << 16), arguments.number(5, "preemphasis", 0, 1)};
  const auto stream = stream_argument(arguments, info, 6);
  DeviceTensor features(DeviceType::kFloat32, {frames->frames(), tables.settings().mel_bins}, stream);
  tables.features(*samples, offsets.i32(), *frames, framing, features, stream);
  return wrap(info.Env(), std::move(features));
}

std::shared_ptr<cuda::DeviceSequences> frames_of(const Arguments& arguments, const Napi::CallbackInfo& info, size_t index, const DeviceTensor& features) {
  auto sequences = DeviceSequencesObject::from(arguments, info[index], "sequences");
  if (features.shape().size() != 2 || sequences->frames() != features.rows()) {
    arguments.fail("the sequences have " + std::to_string(sequences->frames()) + " frames but features have shape " + shape_text(features.shape()));
  }
  return sequences;
}

// deviceNormaliseColumns(features float32 (frames, bins), sequences, addedDeviation, stream?): in place
Napi::Value normalise_columns(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceNormaliseColumns", 3);
  const auto features = DeviceTensorObject::from(arguments, info[0], "features");
  if (features->type() != DeviceType::kFloat32) arguments.fail(std::string("features are ") + cuda::name_of(features->type()) + "; they must be float32");
  const auto sequences = frames_of(arguments, info, 1, *features);
  const auto stream = stream_argument(arguments, info, 3);
  cuda::normalise_columns(*features, sequences->use_on(stream), arguments.number(2, "addedDeviation", 0, 1), stream);
  return info.Env().Undefined();
}

// deviceSpecAugment(features, sequences, intervals, offsets (2 sequences + 1), stream?): in place
Napi::Value spec_augment(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "deviceSpecAugment", 4);
  const auto features = DeviceTensorObject::from(arguments, info[0], "features");
  if (features->type() != DeviceType::kFloat32 && features->type() != DeviceType::kBFloat16) {
    arguments.fail(std::string("features are ") + cuda::name_of(features->type()) + "; they must be float32 or bfloat16");
  }
  const auto sequences = frames_of(arguments, info, 1, *features);
  const std::vector<int64_t> bounds = arguments.integers(2, "intervals", 0, int64_t{1} << 30);
  const std::vector<int64_t> offsets = arguments.integers(3, "offsets", 0, static_cast<int64_t>(bounds.size() / 2));
  if (offsets.size() != 2 * static_cast<size_t>(sequences->count()) + 1) {
    arguments.fail("there are masks of " + std::to_string(offsets.size() / 2) + " utterances but " + std::to_string(sequences->count()) + " sequences");
  }
  cuda::Masks masks{{offsets.begin(), offsets.end()}, {bounds.begin(), bounds.end()}};
  for (size_t kind = 0; kind + 1 < offsets.size(); ++kind) {
    const size_t sequence = kind / 2;
    const int64_t extent = kind % 2 == 0 ? features->columns() : sequences->offsets()[sequence + 1] - sequences->offsets()[sequence];
    for (int64_t i = offsets[kind]; i < offsets[kind + 1]; ++i) {
      if (bounds[2 * i] > bounds[2 * i + 1] || bounds[2 * i + 1] > extent) {
        arguments.fail("mask " + std::to_string(bounds[2 * i]) + " to " + std::to_string(bounds[2 * i + 1]) + " of sequence " + std::to_string(sequence) +
                       " does not lie within its " + std::to_string(extent) + (kind % 2 == 0 ? " bins" : " frames"));
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
  define<normalise_columns>(exports, "deviceNormaliseColumns");
  define<spec_augment>(exports, "deviceSpecAugment");
}

}  // namespace usmlite::binding
