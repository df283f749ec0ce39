#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "audio/log_mel_plan.hpp"
#include "audio/resampler.hpp"
#include "audio/stream_decoder.hpp"
#include "cpu/log_mel.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/log_mel_argument.hpp"
#include "napi/tensor_binding.hpp"
#include "napi/typed_arrays.hpp"

namespace usmlite::binding {
namespace {

constexpr napi_type_tag kLogMelTag = {0x3b6a0f6de55c4b0aull, 0x8e7a5c11d2049f63ull};
constexpr napi_type_tag kDecoderTag = {0xd1b47e5520c94f38ull, 0x9f06b2a8c3e1745dull};
constexpr napi_type_tag kResamplerTag = {0x62c8e0b94d1f4a77ull, 0xa9915f3be08d24c5ull};

// A native object that JavaScript holds and passes back; freed by the garbage collector.
template <typename T>
Napi::Value wrap(Napi::Env env, std::unique_ptr<T> object, const napi_type_tag& tag) {
  auto external = Napi::External<T>::New(env, object.get(), [](Napi::Env, T* owned) { delete owned; });
  object.release();
  external.TypeTag(&tag);
  return external;
}

template <typename T>
T& unwrap(const Arguments& arguments, Napi::Value value, const napi_type_tag& tag, const char* what) {
  if (!value.IsExternal() || !value.As<Napi::External<T>>().CheckTypeTag(&tag)) {
    arguments.fail(std::string("the first argument must be ") + what);
  }
  return *value.As<Napi::External<T>>().Data();
}

struct Samples {
  const float* data;
  int64_t count;
};

Samples samples_from(const Arguments& arguments, Napi::Value value) {
  const auto array = array_of<float>(arguments, value, "samples");
  return {array.Data(), static_cast<int64_t>(array.ElementLength())};
}

Napi::Float32Array new_samples(Napi::Env env, int64_t count) {
  return new_array<float>(env, static_cast<size_t>(count), "samples at once; take audio in shorter pieces");
}

audio::WindowShape window_shape(const Arguments& arguments, size_t index) {
  const std::string name = arguments.text(index, "window");
  if (name == "symmetric") return audio::WindowShape::kSymmetricHann;
  if (name == "periodic") return audio::WindowShape::kPeriodicHann;
  if (name == "povey") return audio::WindowShape::kPovey;
  arguments.fail("window must be symmetric, periodic or povey");
}

// logMelCreate(sampleRate, windowLength, hopLength, fftLength, melBins, lowerEdge, upperEdge, floor, slaneyMel, window, addedFloor,
// framePreemphasis)
Napi::Value log_mel_create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "logMelCreate", 11);
  audio::LogMelSettings settings;
  settings.sample_rate = arguments.number(0, "sampleRate", 1, 1e6);
  settings.window_length = arguments.integer(1, "windowLength", 2, 1 << 16);
  settings.hop_length = arguments.integer(2, "hopLength", 1, 1 << 16);
  settings.fft_length = arguments.integer(3, "fftLength", 8, 1 << 16);
  settings.mel_bins = arguments.integer(4, "melBins", 1, 1 << 12);
  settings.lower_edge = arguments.number(5, "lowerEdge", 0, 1e6);
  settings.upper_edge = arguments.number(6, "upperEdge", 0, 1e6);
  settings.floor = arguments.number(7, "floor", 1e-30, 1);
  if (arguments.boolean(8, "slaneyMel")) settings.mel_scale = audio::MelScale::kSlaney;
  settings.window_shape = window_shape(arguments, 9);
  if (arguments.boolean(10, "addedFloor")) settings.energy_floor = audio::EnergyFloor::kAdded;
  if (arguments.has(11)) settings.frame_preemphasis = arguments.number(11, "framePreemphasis", 0, 1);
  return wrap(info.Env(), std::make_unique<audio::LogMelPlan>(settings), kLogMelTag);
}

// logMel(plan, samples) -> tensor (frames, melBins)
Napi::Value log_mel(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "logMel", 2);
  const audio::LogMelPlan& plan = log_mel_argument(arguments, info[0]);
  const Samples samples = samples_from(arguments, info[1]);
  Tensor features(DType::kFloat32, {plan.frames(samples.count), plan.settings.mel_bins});
  cpu::log_mel(plan, samples.data, features.dim(0), features.f32());
  return TensorHandle::wrap(info.Env(), std::move(features));
}

// resamplerCreate(fromRate, toRate)
Napi::Value resampler_create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "resample", 2);
  const int64_t from = arguments.integer(0, "fromRate", 1, 1'000'000);
  const int64_t to = arguments.integer(1, "toRate", 1, 1'000'000);
  return wrap(info.Env(), std::make_unique<audio::Resampler>(from, to), kResamplerTag);
}

// resamplerPush(resampler, samples) -> Float32Array
Napi::Value resampler_push(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "resample", 2);
  auto& resampler = unwrap<audio::Resampler>(arguments, info[0], kResamplerTag, "a resampler");
  const Samples samples = samples_from(arguments, info[1]);
  Napi::Float32Array output = new_samples(info.Env(), resampler.ready(samples.count, false));
  resampler.push(samples.data, samples.count, output.Data());
  return output;
}

// resamplerFinish(resampler) -> Float32Array
Napi::Value resampler_finish(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "resample", 1);
  auto& resampler = unwrap<audio::Resampler>(arguments, info[0], kResamplerTag, "a resampler");
  Napi::Float32Array output = new_samples(info.Env(), resampler.ready(0, true));
  resampler.finish(output.Data());
  return output;
}

// resample(samples, fromRate, toRate) -> Float32Array
Napi::Value resample(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "resample", 3);
  const Samples samples = samples_from(arguments, info[0]);
  const int64_t from = arguments.integer(1, "fromRate", 1, 1'000'000);
  const int64_t to = arguments.integer(2, "toRate", 1, 1'000'000);
  audio::Resampler resampler(from, to);
  const int64_t body = resampler.ready(samples.count, false);
  const int64_t total = audio::resample_plan(from, to)->output_length(samples.count);
  Napi::Float32Array output = new_samples(info.Env(), total);
  resampler.push(samples.data, samples.count, output.Data());
  resampler.finish(output.Data() + body);
  return output;
}

// audioDecoderCreate(format, fileBytes, allowTruncated); fileBytes is -1 when unknown
Napi::Value audio_decoder_create(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "audioDecoderCreate", 3);
  const std::string format = arguments.text(0, "format");
  const int64_t file_bytes = arguments.integer(1, "fileBytes", -1, int64_t{1} << 53);
  return wrap(info.Env(), audio::make_stream_decoder(format, file_bytes, arguments.boolean(2, "allowTruncated")), kDecoderTag);
}

// audioDecoderPush(decoder, bytes)
Napi::Value audio_decoder_push(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "audioDecoderPush", 2);
  const auto bytes = arguments.bytes(1, "bytes");
  unwrap<audio::StreamDecoder>(arguments, info[0], kDecoderTag, "an audio decoder").push(bytes.data, bytes.size);
  return info.Env().Undefined();
}

// audioDecoderEnd(decoder)
Napi::Value audio_decoder_end(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "audioDecoderEnd", 1);
  unwrap<audio::StreamDecoder>(arguments, info[0], kDecoderTag, "an audio decoder").end();
  return info.Env().Undefined();
}

// audioDecoderNext(decoder) -> Float32Array, empty when more bytes are needed
Napi::Value audio_decoder_next(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "audioDecoderNext", 1);
  std::vector<float> samples;
  unwrap<audio::StreamDecoder>(arguments, info[0], kDecoderTag, "an audio decoder").next(samples);
  Napi::Float32Array output = new_samples(info.Env(), static_cast<int64_t>(samples.size()));
  std::copy(samples.begin(), samples.end(), output.Data());
  return output;
}

// audioDecoderInfo(decoder) -> {sampleRate, declaredSamples, unsupported}, or undefined before the header is read
Napi::Value audio_decoder_info(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "audioDecoderInfo", 1);
  const auto* stream = unwrap<audio::StreamDecoder>(arguments, info[0], kDecoderTag, "an audio decoder").info();
  if (!stream) return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("sampleRate", static_cast<double>(stream->sample_rate));
  result.Set("declaredSamples", static_cast<double>(stream->declared_samples));
  result.Set("unsupported", stream->unsupported);
  return result;
}

}  // namespace

const audio::LogMelPlan& log_mel_argument(const Arguments& arguments, Napi::Value value) {
  return unwrap<audio::LogMelPlan>(arguments, value, kLogMelTag, "a log-mel plan");
}

void define_audio(Napi::Object exports) {
  define<audio_decoder_create>(exports, "audioDecoderCreate");
  define<audio_decoder_push>(exports, "audioDecoderPush");
  define<audio_decoder_end>(exports, "audioDecoderEnd");
  define<audio_decoder_next>(exports, "audioDecoderNext");
  define<audio_decoder_info>(exports, "audioDecoderInfo");
  define<log_mel_create>(exports, "logMelCreate");
  define<log_mel>(exports, "logMel");
  define<resampler_create>(exports, "resamplerCreate");
  define<resampler_push>(exports, "resamplerPush");
  define<resampler_finish>(exports, "resamplerFinish");
  define<resample>(exports, "resample");
}

}  // namespace usmlite::binding
