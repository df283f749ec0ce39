#include "cpu/lstm_cell.hpp"

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/results.hpp"

namespace usmlite::binding {
namespace {

// lstmCell(gates, cell) -> [hidden, cell]; gates (rows, 4 * hidden), the others (rows, hidden)
Napi::Value lstm_cell(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "lstmCell", 2);
  const Tensor& cell = arguments.tensor(1, "cell", DType::kFloat32, {kAny, kAny});
  const Tensor& gates = arguments.tensor(0, "gates", DType::kFloat32, {cell.dim(0), 4 * cell.dim(1)});
  Tensor new_hidden(DType::kFloat32, cell.shape()), new_cell(DType::kFloat32, cell.shape());
  cpu::lstm_cell(gates.f32(), cell.f32(), cell.dim(0), cell.dim(1), new_hidden.f32(), new_cell.f32());
  return wrap_all(info.Env(), {new_hidden, new_cell});
}

}  // namespace

void define_lstm_cell(Napi::Object exports) { define<lstm_cell>(exports, "lstmCell"); }

}  // namespace usmlite::binding
