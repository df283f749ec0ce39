// What the addon keeps per JavaScript environment: each worker thread has its own.
#pragma once
#include <napi.h>

namespace usmlite::binding {

struct Environment {
  Napi::FunctionReference error_constructor;   // UsmLiteError(code, message)
  Napi::FunctionReference tensor_constructor;  // TensorHandle
};

}  // namespace usmlite::binding
