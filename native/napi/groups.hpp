// The groups of bindings; each is defined in the file of its name.
#pragma once
#include <napi.h>

namespace usmlite::binding {

void define_ctc_loss(Napi::Object exports);
void define_audio(Napi::Object exports);
void define_elementwise(Napi::Object exports);
void define_one_shot(Napi::Object exports);
void define_optimizer(Napi::Object exports);
void define_matmul(Napi::Object exports);
void define_subsampling_convolution(Napi::Object exports);
void define_codec(Napi::Object exports);
void define_fake_quantize(Napi::Object exports);
void define_file_lock(Napi::Object exports);
void define_activation(Napi::Object exports);
void define_attention(Napi::Object exports);
void define_batch_norm(Napi::Object exports);
void define_depthwise_convolution(Napi::Object exports);
void define_cached_attention(Napi::Object exports);
void define_gelu(Napi::Object exports);
void define_grouped_convolution(Napi::Object exports);
void define_instance_norm(Napi::Object exports);
void define_low_rank(Napi::Object exports);
void define_lstm_cell(Napi::Object exports);
void define_lstm_sequence(Napi::Object exports);
void define_plane_convolution(Napi::Object exports);
void define_relative_attention(Napi::Object exports);
void define_row_copies(Napi::Object exports);
void define_language_tables(Napi::Object exports);
void define_layer_norm(Napi::Object exports);
void define_softmax(Napi::Object exports);
void define_token_choice(Napi::Object exports);
void define_cross_entropy(Napi::Object exports);
void define_softmax_divergence(Napi::Object exports);
void define_transducer_loss(Napi::Object exports);
void define_packed_matrix(Napi::Env env, Napi::Object exports);
void define_packed_matmul(Napi::Object exports);
void define_prefix_search(Napi::Env env, Napi::Object exports);
void define_runtime(Napi::Object exports);

// Of modules with a GPU, real or emulated.
void define_gpu(Napi::Env env, Napi::Object exports);
void define_device_tensor(Napi::Object exports);
void define_device_weight(Napi::Object exports);
void define_device_linear(Napi::Object exports);
void define_device_sequences(Napi::Env env, Napi::Object exports);
void define_device_encoder(Napi::Object exports);
void define_device_cached_attention(Napi::Object exports);
void define_device_sample_encoder(Napi::Object exports);
void define_device_low_rank(Napi::Object exports);
void define_device_plane(Napi::Object exports);
void define_device_elementwise(Napi::Object exports);
void define_device_gradients(Napi::Object exports);
void define_device_attention_gradients(Napi::Object exports);
void define_device_training(Napi::Object exports);
void define_device_distillation(Napi::Object exports);
void define_device_quantization(Napi::Object exports);
void define_device_integer_training(Napi::Object exports);
void define_device_recording(Napi::Env env, Napi::Object exports);
void define_device_host(Napi::Env env, Napi::Object exports);
void define_device_ctc(Napi::Object exports);
void define_device_token_choice(Napi::Object exports);
void define_device_sequence_training(Napi::Object exports);
void define_device_positional_convolution(Napi::Object exports);
void define_device_features(Napi::Object exports);
void define_device_transducer(Napi::Object exports);
void define_device_transducer_training(Napi::Object exports);

}  // namespace usmlite::binding
