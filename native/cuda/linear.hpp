// Linear layers with weights on the GPU: what a product needs besides its operands is found here.
#pragma once
#include <memory>
#include <string_view>

#include "cuda/device_tensor.hpp"
#include "cuda/device_weight.hpp"
#include "cuda/matmul.hpp"

namespace usmlite::cuda {

/// Rows of 8-bit codes with a scale for each: x[i][j] = codes[i][j] * scales[i], plus the row's offset where there are some.
struct QuantizedRows {
  DeviceTensor codes;   // kInt8 or kFloat8 (rows, columns)
  DeviceTensor scales;  // kFloat32 (rows); of RowCodes::kInt8Asymmetric (2, rows): scales, then offsets
  const float* offsets(const Stream& stream) const {
    return scales.shape().size() == 2 ? scales.use_on<float>(stream) + scales.row_stride() : nullptr;
  }
};

/// Rounds every row of a kBFloat16 or kFloat16 matrix, as quantize_rows.hpp says.
QuantizedRows quantize_rows(const DeviceTensor& x, RowCodes codes, const Stream& stream);

struct LinearOptions {
  const DeviceTensor* bias = nullptr;      // kFloat32 (padded channels), in the order of the weight's
  const DeviceTensor* residual = nullptr;  // like the output
  const DeviceTensor* output = nullptr;    // where the product goes, columns of a matrix maybe; otherwise a tensor of its own
  float scale = 1.0f, residual_scale = 1.0f;
  Activation activation = Activation::kNone;
  MatmulKernel kernel = MatmulKernel::kByTokens;
  std::string_view plan;  // code of a plan (product_plan.hpp) to take instead, for measuring it
};

/// residual_scale * residual + scale * activation(x Wᵀ + bias), as MatmulArguments says: prepared once, for any number of
/// runs with weights of one shape. The operands must outlive it.
class Linear {
 public:
  /// x: (tokens, inputs) of 16-bit floats; where the weight's arithmetic has 8 bits they are quantized in each run, unless
  /// x holds codes already and `row_scales` their scales. Throws INVALID_ARGUMENT when something does not fit.
  Linear(const DeviceTensor& x, const DeviceTensor* row_scales, const DeviceWeight& weight, const LinearOptions& options,
         const Stream& stream);

  /// Gives the work to the stream. `weight` is like that of the constructor.
  void run(const DeviceWeight& weight);
  const DeviceTensor& output() const { return output_; }

 private:
  Stream stream_;
  DeviceTensor x_;  // to be quantized in each run, or released
  QuantizedRows quantized_;
  DeviceTensor output_;
  std::unique_ptr<DeviceMemory> partial_sums_;
  MatmulArguments arguments_;
  ProductPlan plan_;
};

}  // namespace usmlite::cuda
