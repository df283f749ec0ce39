// Entry point of the addon. Context aware: every worker thread that loads it gets its own Environment.
#include <napi.h>

#include "core/instruction_set.hpp"
#include "napi/arguments.hpp"
#include "napi/environment.hpp"
#include "napi/groups.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

Napi::Value set_error_constructor(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "setErrorConstructor", 1);
  if (!info[0].IsFunction()) arguments.fail("the error constructor must be a function");
  info.Env().GetInstanceData<Environment>()->error_constructor = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment);
  define<set_error_constructor>(exports, "setErrorConstructor");
  define_tensor(env, exports);
  define_runtime(exports);
  define_codec(exports);
  define_audio(exports);
  define_elementwise(exports);
  define_one_shot(exports);
  define_optimizer(exports);
  define_ctc_loss(exports);
  define_matmul(exports);
  define_subsampling_convolution(exports);
  define_fake_quantize(exports);
  define_file_lock(exports);
  define_activation(exports);
  define_attention(exports);
  define_batch_norm(exports);
  define_depthwise_convolution(exports);
  define_cached_attention(exports);
  define_gelu(exports);
  define_grouped_convolution(exports);
  define_instance_norm(exports);
  define_low_rank(exports);
  define_lstm_cell(exports);
  define_lstm_sequence(exports);
  define_plane_convolution(exports);
  define_relative_attention(exports);
  define_row_copies(exports);
  define_language_tables(exports);
  define_layer_norm(exports);
  define_softmax(exports);
  define_token_choice(exports);
  define_cross_entropy(exports);
  define_softmax_divergence(exports);
  define_transducer_loss(exports);
  define_packed_matrix(env, exports);
  define_packed_matmul(exports);
  define_prefix_search(env, exports);
#ifdef USMLITE_GPU
  define_gpu(env, exports);
  define_device_tensor(exports);
  define_device_weight(exports);
  define_device_linear(exports);
  define_device_sequences(env, exports);
  define_device_encoder(exports);
  define_device_cached_attention(exports);
  define_device_sample_encoder(exports);
  define_device_low_rank(exports);
  define_device_plane(exports);
  define_device_elementwise(exports);
  define_device_gradients(exports);
  define_device_attention_gradients(exports);
  define_device_training(exports);
  define_device_distillation(exports);
  define_device_quantization(exports);
  define_device_integer_training(exports);
  define_device_recording(env, exports);
  define_device_host(env, exports);
  define_device_ctc(exports);
  define_device_token_choice(exports);
  define_device_sequence_training(exports);
  define_device_positional_convolution(exports);
  define_device_features(exports);
  define_device_transducer(exports);
  define_device_transducer_training(exports);
#endif
  return exports;
}

}  // namespace
}  // namespace usmlite::binding

Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  try {
    usmlite::active_instruction_set();  // a wrong USMLITE_ISA is reported when the addon loads
    return usmlite::binding::initialize(env, exports);
  } catch (const usmlite::Error& error) {
    usmlite::binding::throw_javascript_error(env, error.code(), error.what());
  }
}

NODE_API_MODULE(usm_lite, initialize_addon)
