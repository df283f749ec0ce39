#include "cpu/packed_matmul.hpp"

#include <algorithm>
#include <optional>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"
#include "napi/matmul_arguments.hpp"
#include "napi/packed_matrix_binding.hpp"
#include "napi/tensor_binding.hpp"

namespace usmlite::binding {
namespace {

cpu::ActivationCoding coding_of(const Arguments& arguments, const std::string& name) {
  if (name == "int8") return cpu::ActivationCoding::kInt8;
  if (name == "int8-asymmetric") return cpu::ActivationCoding::kInt8Asymmetric;
  if (name == "int4") return cpu::ActivationCoding::kInt4;
  arguments.fail("activations \"" + name + "\" are unknown; choose float32, int8, int8-asymmetric or int4");
}

// A schedule other than the table's, as bench/tune_cpu.ts tries them: [few, least, most rows of a tile, rows of a task, turns, matrix rows].
std::optional<cpu::PackedSchedule> schedule_of(const Arguments& arguments, size_t index) {
  if (!arguments.has(index)) return std::nullopt;
  const std::vector<int64_t> numbers = arguments.integers(index, "schedule", 0, 1 << 20);
  if (numbers.size() != 6) arguments.fail("a schedule has 6 numbers, not " + std::to_string(numbers.size()));
  const cpu::PackedSchedule schedule{numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]};
  if (std::min({schedule.least_tile_rows, schedule.rows_per_task, schedule.turns}) < 1 || schedule.most_tile_rows < schedule.least_tile_rows) {
    arguments.fail("tiles, tasks and turns of a schedule are at least 1, and the most rows of a tile not below the least");
  }
  return schedule;
}

// packedLinear(x, matrix, bias?, activation, scale, residual?, residualScale, activations, schedule?)
Napi::Value packed_linear(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "packedLinear", 8);
  const Tensor& x = arguments.tensor(0, "x", DType::kFloat32, {kAny, kAny});
  const auto weight = PackedMatrixHandle::from(arguments, info[1]);
  const int64_t frames = x.dim(0);
  if (x.dim(1) != weight->columns()) {
    arguments.fail("the weight (" + std::to_string(weight->rows()) + ", " + std::to_string(weight->columns()) +
                   ") takes " + std::to_string(weight->columns()) + " features but x has " + std::to_string(x.dim(1)));
  }
  cpu::MatmulEpilogue epilogue;
  epilogue.activation = packed_activation_argument(arguments, 3);
  const bool gated = epilogue.activation == cpu::Activation::kGlu;
  if (gated && weight->rows() % 2 != 0) {
    arguments.fail("glu halves the output channels, but the weight has " + std::to_string(weight->rows()) + ", an odd number");
  }
  const int64_t columns = gated ? weight->rows() / 2 : weight->rows();
  const Tensor* bias = arguments.optional_tensor(2, "bias", DType::kFloat32, {weight->rows()});
  const Tensor* residual = arguments.optional_tensor(5, "residual", DType::kFloat32, {frames, columns});
  epilogue.bias = bias ? bias->f32() : nullptr;
  epilogue.scale = factor_argument(arguments, 4, "scale");
  epilogue.residual = residual ? residual->f32() : nullptr;
  epilogue.residual_scale = factor_argument(arguments, 6, "residualScale");
  const std::string activations = arguments.text(7, "activations");
  const bool floats = activations == "float32";
  const auto coding = floats ? cpu::ActivationCoding::kInt8 : coding_of(arguments, activations);
  const std::optional<cpu::PackedSchedule> schedule = schedule_of(arguments, 8);
  Tensor output(DType::kFloat32, {frames, columns});
  if (!floats && weight->spec().is_integer()) {
    cpu::packed_matmul_int8(*weight, frames, x.f32(), output.f32(), epilogue, nullptr, coding, schedule ? &*schedule : nullptr);
  } else {
    cpu::packed_matmul_float(*weight, frames, x.f32(), output.f32(), epilogue);
  }
  return TensorHandle::wrap(info.Env(), std::move(output));
}

}  // namespace

void define_packed_matmul(Napi::Object exports) { define<packed_linear>(exports, "packedLinear"); }

}  // namespace usmlite::binding
