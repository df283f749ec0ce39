// The groups of bindings; each is defined in the file of its name.
#pragma once
#include <napi.h>

namespace usmlite::binding {

void define_ctc_loss(Napi::Object exports);
void define_audio(Napi::Object exports);
void define_elementwise(Napi::Object exports);
void define_optimizer(Napi::Object exports);
void define_matmul(Napi::Object exports);
void define_codec(Napi::Object exports);
void define_fake_quantize(Napi::Object exports);
void define_runtime(Napi::Object exports);

}  // namespace usmlite::binding
