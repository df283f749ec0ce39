#include "cpu/lstm_sequence.hpp"

#include <algorithm>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// lstmSequence(inputs, recurrent, offsets) -> [hidden, cells, gates]; inputs, gates (rows, 4 * hidden), recurrent (4 * hidden, hidden)
Napi::Value lstm_sequence(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "lstmSequence", 3);
  const Tensor& recurrent = arguments.tensor(1, "recurrent", DType::kFloat32, {kAny, kAny});
  const int64_t hidden = recurrent.dim(1);
  if (recurrent.dim(0) != 4 * hidden) arguments.fail("recurrent must be (4 * hidden, hidden) but has shape " + shape_text(recurrent.shape()));
  const Tensor& inputs = arguments.tensor(0, "inputs", DType::kFloat32, {kAny, 4 * hidden});
  const Tensor& offsets = arguments.offsets(2, "offsets", inputs.dim(0));
  const Tensor states(DType::kFloat32, {inputs.dim(0), hidden}), cells(DType::kFloat32, {inputs.dim(0), hidden}),
      gates(DType::kFloat32, inputs.shape());
  std::copy_n(inputs.f32(), inputs.count(), gates.f32());
  cpu::lstm_sequence(cpu::LstmSequence{offsets.i32(), offsets.count() - 1, hidden, recurrent.f32()}, gates.f32(), states.f32(), cells.f32());
  return wrap_all(info.Env(), {states, cells, gates});
}

// lstmSequenceBackward(gates, recurrent, offsets, hidden, cells, gradient) -> gradients of [inputs, recurrent]
Napi::Value lstm_sequence_backward(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "lstmSequenceBackward", 6);
  const Tensor& states = arguments.tensor(3, "hidden", DType::kFloat32, {kAny, kAny});
  const int64_t rows = states.dim(0), hidden = states.dim(1);
  const Tensor& recurrent = arguments.tensor(1, "recurrent", DType::kFloat32, {4 * hidden, hidden});
  const Tensor& gates = arguments.tensor(0, "gates", DType::kFloat32, {rows, 4 * hidden});
  const Tensor& offsets = arguments.offsets(2, "offsets", rows);
  const Tensor& cells = arguments.tensor(4, "cells", DType::kFloat32, {rows, hidden});
  const Tensor& gradient = arguments.tensor(5, "gradient", DType::kFloat32, {rows, hidden});
  const Tensor gate_gradient(DType::kFloat32, gates.shape()), recurrent_gradient(DType::kFloat32, recurrent.shape());
  cpu::lstm_sequence_backward(cpu::LstmSequence{offsets.i32(), offsets.count() - 1, hidden, recurrent.f32()}, gates.f32(), states.f32(), cells.f32(),
                              gradient.f32(), gate_gradient.f32(), recurrent_gradient.f32());
  return wrap_all(info.Env(), {gate_gradient, recurrent_gradient});
}

}  // namespace

void define_lstm_sequence(Napi::Object exports) {
  define<lstm_sequence>(exports, "lstmSequence");
  define<lstm_sequence_backward>(exports, "lstmSequenceBackward");
}

}  // namespace usmlite::binding
