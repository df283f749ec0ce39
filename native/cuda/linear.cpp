#include "cuda/linear.hpp"

#include <limits>
#include <string>

#include "core/error.hpp"
#include "cuda/quantize_rows.hpp"

namespace usmlite::cuda {
namespace {

[[noreturn]] void invalid(const std::string& sentence) { throw Error(error_code::kInvalidArgument, "deviceLinear: " + sentence); }

bool is_float16_bit(DeviceType type) { return type == DeviceType::kBFloat16 || type == DeviceType::kFloat16; }

/// The type of activations that an arithmetic multiplies.
DeviceType operand_type(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kBFloat16: return DeviceType::kBFloat16;
    case Arithmetic::kFloat16: return DeviceType::kFloat16;
    case Arithmetic::kInt8: return DeviceType::kInt8;
    case Arithmetic::kFloat8: return DeviceType::kFloat8;
  }
  return DeviceType::kBFloat16;
}

/// What activations are rounded to.
RowCodes row_codes(const DeviceWeight& weight) { return weight.view().arithmetic == Arithmetic::kFloat8 ? RowCodes::kFloat8 : weight.activations(); }

/// Not filled yet. `scales`: for each row, and so many offsets where the codes have them.
QuantizedRows rows_of(RowCodes codes, const std::vector<int64_t>& shape, int64_t scales, const Stream& stream) {
  std::vector<int64_t> of_rows{scales};
  if (codes == RowCodes::kInt8Asymmetric) of_rows.insert(of_rows.begin(), 2);
  const DeviceType type = codes == RowCodes::kFloat8 ? DeviceType::kFloat8 : DeviceType::kInt8;
  return {DeviceTensor(type, shape, stream), DeviceTensor(DeviceType::kFloat32, of_rows, stream)};
}

void quantize(const DeviceTensor& x, const QuantizedRows& rows, RowCodes codes, const Stream& stream) {
  QuantizeRowsArguments arguments{};
  arguments.rows = static_cast<int>(x.rows());
  arguments.columns = static_cast<int>(x.columns());
  arguments.from = x.type() == DeviceType::kBFloat16 ? RowFloats::kBFloat16 : RowFloats::kFloat16;
  arguments.x = x.use_on<uint8_t>(stream);
  arguments.x_stride = x.row_stride();
  arguments.to = codes;
  arguments.codes = rows.codes.use_on<uint8_t>(stream);
  arguments.codes_stride = rows.codes.row_stride();
  arguments.scales = rows.scales.use_on<float>(stream);
  arguments.offsets = const_cast<float*>(rows.offsets(stream));
  quantize_rows(arguments, stream.handle());
}

ProductPlan planned(const WeightView& weight, int tokens, const LinearOptions& options) {
  if (options.plan.empty()) return choose_product_plan(weight, tokens, options.kernel);
  const std::optional<ProductPlan> plan = product_plan_of(options.plan, weight, tokens);
  if (!plan) invalid("there is no plan " + std::string(options.plan) + " for this weight, GPU and number of tokens");
  return *plan;
}

}  // namespace

QuantizedRows quantize_rows(const DeviceTensor& x, RowCodes codes, const Stream& stream) {
  const QuantizedRows rows = rows_of(codes, x.shape(), x.rows(), stream);
  quantize(x, rows, codes, stream);
  return rows;
}

Linear::Linear(const DeviceTensor& x, const DeviceTensor* row_scales, const DeviceWeight& weight, const LinearOptions& options,
               const Stream& stream)
    : stream_(stream), arguments_{}, plan_{} {
  const WeightView& view = weight.view();
  const DeviceType operand = operand_type(view.arithmetic);
  if (x.shape().size() != 2 || x.columns() != view.inputs) {
    invalid("the weight (" + std::to_string(view.channels) + ", " + std::to_string(view.inputs) + ") takes (tokens, " +
            std::to_string(view.inputs) + ") but x has shape " + shape_text(x.shape()));
  }
  if (x.rows() > std::numeric_limits<int>::max() / 2) invalid("x has more than 2^30 rows");
  const bool quantizes = !is_float16_bit(operand) && is_float16_bit(x.type());
  if (!quantizes && x.type() != operand) {
    invalid(std::string("the weight's arithmetic multiplies ") + name_of(operand) + " but x is " + name_of(x.type()) +
            (is_float16_bit(operand) ? "; cast it" : "; give bfloat16 or float16, or use quantizeRows"));
  }
  if (!is_float16_bit(operand) && !quantizes) {
    const bool has_scales = row_scales && row_scales->type() == DeviceType::kFloat32 && row_scales->columns() == x.rows();
    if (!has_scales || (row_scales->shape().size() == 2 && row_scales->rows() != 2)) {
      invalid("x of 8 bits needs a float32 scale for each of its " + std::to_string(x.rows()) + " rows, and offsets below them where it has some");
    }
    if (row_scales->shape().size() == 2 && !view.channel_sums) {
      invalid("rows with offsets need a weight of whole numbers in int8 arithmetic, of training one that is made for activations of int8-asymmetric");
    }
  }
  if ((options.activation == Activation::kGlu) != (weight.order() == ChannelOrder::kGlu)) {
    invalid(weight.order() == ChannelOrder::kGlu ? "the weight was arranged for the activation glu; use that"
                                                 : "the activation glu takes a weight made with { glu: true }");
  }
  const DeviceType output = operand == DeviceType::kFloat16 ? DeviceType::kFloat16 : DeviceType::kBFloat16;
  const std::vector<int64_t> output_shape{x.rows(), weight.outputs()};
  if (options.bias && (options.bias->type() != DeviceType::kFloat32 ||
                       options.bias->shape() != std::vector<int64_t>{weight.padded_channels()})) {
    invalid("bias must come from this weight's arrangeBias: float32 (" + std::to_string(weight.padded_channels()) + ")");
  }
  if (options.residual && (options.residual->type() != output || options.residual->shape() != output_shape)) {
    invalid(std::string("residual must be ") + name_of(output) + " " + shape_text(output_shape) + " but is " +
            name_of(options.residual->type()) + " " + shape_text(options.residual->shape()));
  }

  if (options.output && (options.output->type() != output || options.output->shape() != output_shape)) {
    invalid(std::string("the output must be ") + name_of(output) + " " + shape_text(output_shape) + " but is " +
            name_of(options.output->type()) + " " + shape_text(options.output->shape()));
  }

  output_ = options.output ? *options.output : DeviceTensor(output, output_shape, stream);
  if (options.residual && options.residual->row_stride() != output_.row_stride()) {
    invalid("rows of residual and output must lie equally far apart");
  }
  if (quantizes) {
    x_ = x;
    // As many scales as leave no gap behind, which would be filled.
    quantized_ = rows_of(row_codes(weight), x.shape(), (x.rows() + 3) / 4 * 4, stream);
  } else if (row_scales) {
    quantized_ = {x, *row_scales};
  }
  const DeviceTensor& multiplied = quantizes ? quantized_.codes : x;
  arguments_.tokens = static_cast<int>(x.rows());
  arguments_.x = multiplied.use_on<uint8_t>(stream);
  arguments_.x_stride = multiplied.row_stride();
  if (!quantized_.codes.released()) {
    arguments_.row_scales = quantized_.scales.use_on<float>(stream);
    arguments_.row_offsets = quantized_.offsets(stream);
  }
  arguments_.y = output_.use_on<uint8_t>(stream);
  arguments_.y_stride = output_.row_stride();
  arguments_.bias = options.bias ? options.bias->use_on<float>(stream) : nullptr;
  arguments_.residual = options.residual ? options.residual->use_on<uint8_t>(stream) : nullptr;
  arguments_.scale = options.scale;
  arguments_.residual_scale = options.residual_scale;
  arguments_.activation = options.activation;
  plan_ = planned(view, arguments_.tokens, options);
  const MatmulWorkspace workspace = matmul_workspace(view, arguments_.tokens, plan_);
  if (workspace.partial_sums > 0) {
    partial_sums_ = std::make_unique<DeviceMemory>(static_cast<size_t>(workspace.partial_sums) * sizeof(float), stream);
    arguments_.partial_sums = reinterpret_cast<float*>(partial_sums_->data());
    arguments_.partial_sum_count = workspace.partial_sums;
    arguments_.counters = stream.counters(workspace.counters);
  }
}

void Linear::run(const DeviceWeight& weight) {
  if (!x_.released()) quantize(x_, quantized_, row_codes(weight), stream_);
  arguments_.weight = weight.view();
  matmul(arguments_, stream_.handle(), plan_);
}

}  // namespace usmlite::cuda
