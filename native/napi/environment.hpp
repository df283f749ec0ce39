// What the addon keeps per JavaScript environment: each worker thread has its own.
#pragma once
#include <napi.h>

namespace usmlite::binding {

struct Environment {
  Napi::FunctionReference error_constructor;   // UsmLiteError(code, message)
  Napi::FunctionReference tensor_constructor;  // TensorHandle
  Napi::FunctionReference packed_matrix_constructor;  // PackedMatrixHandle
  Napi::FunctionReference language_scorer_constructor;  // of prefix_search_binding.cpp
  Napi::FunctionReference prefix_search_constructor;
  Napi::FunctionReference stream_constructor;         // the seven of cuda_handles.hpp
  Napi::FunctionReference device_tensor_constructor;
  Napi::FunctionReference device_weight_constructor;
  Napi::FunctionReference device_sequences_constructor;
  Napi::FunctionReference recording_constructor;
  Napi::FunctionReference event_constructor;
  Napi::FunctionReference pinned_memory_constructor;
};

}  // namespace usmlite::binding
