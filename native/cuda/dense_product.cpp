#include "cuda/dense_product.hpp"

#include <limits>
#include <optional>
#include <string>

#include "core/error.hpp"
#include "cuda/cublaslt.hpp"
#include "cuda/dense_gemm_sm80.hpp"
#include "cuda/dense_gemm_sm90.hpp"
#include "cuda/kernel_architecture.hpp"
#include "cuda/product_plan_table.hpp"
#include "cuda/runtime.hpp"

namespace usmlite::cuda {
namespace {

/// Of our tiles: a small, medium or large one.
std::optional<ManyTokensTile> tile_of(std::string_view way) {
  if (way == "S/1") return ManyTokensTile::kSmall;
  if (way == "M/1") return ManyTokensTile::kMedium;
  if (way == "L/1") return ManyTokensTile::kLarge;
  return std::nullopt;
}

void check(const ProductOperand& x, const ProductOperand& w) {
  const auto invalid = [](const std::string& sentence) { throw Error(error_code::kInvalidArgument, "deviceMatmul: " + sentence); };
  const DeviceType type = x.matrix.type();
  if ((type != DeviceType::kBFloat16 && type != DeviceType::kFloat16) || w.matrix.type() != type) {
    invalid(std::string("x and w must both be bfloat16 or both float16, not ") + name_of(type) + " and " + name_of(w.matrix.type()));
  }
  if (x.matrix.shape().size() != 2 || w.matrix.shape().size() != 2 || x.columns() != w.columns()) {
    invalid("x (tokens, inputs) and w (channels, inputs) must have as many inputs, not the shapes " + shape_text(x.matrix.shape()) + " and " +
            shape_text(w.matrix.shape()));
  }
  for (const int64_t extent : {x.rows(), x.columns(), w.rows()}) {
    if (extent > std::numeric_limits<int>::max() / 2) invalid("matrices of more than 2^30 rows");
  }
}

}  // namespace

std::vector<std::string_view> dense_ways() {
  if (kernel_architecture() != 90) return {"library", "own"};
  return {"library", "S/1", "M/1", "L/1"};
}

DeviceTensor dense_product(const DeviceTensor& x, const DeviceTensor& w, const Stream& stream, std::string_view way) {
  check({x}, {w});
  DeviceTensor y(x.type(), {x.rows(), w.rows()}, stream);
  dense_product_into({x}, {w}, 1.0f, {}, y, stream, way);
  return y;
}

void dense_product_into(const ProductOperand& x, const ProductOperand& w, float scale, const ProductAddend& addend, const DeviceTensor& y,
                        const Stream& stream, std::string_view way) {
  check(x, w);
  const DeviceType type = x.matrix.type();
  const bool wide = y.type() == DeviceType::kFloat32;
  if ((y.type() != type && !wide) || y.shape() != std::vector<int64_t>{x.rows(), w.rows()}) {
    throw Error(error_code::kInvalidArgument, std::string("deviceMatmul: the result must be float32 or ") + name_of(type) + " " +
                                                  shape_text({x.rows(), w.rows()}) + ", not " + name_of(y.type()) + " " + shape_text(y.shape()));
  }
  const DeviceTensor* const added = addend.factor == 0.0f ? nullptr : addend.matrix;
  if (added && (added->type() != y.type() || added->shape() != y.shape() || added->row_stride() != y.row_stride())) {
    throw Error(error_code::kInvalidArgument, std::string("deviceMatmul: what is added is ") + name_of(added->type()) + " " +
                                                  shape_text(added->shape()) + "; it must be " + name_of(y.type()) + " " + shape_text(y.shape()) +
                                                  " like the result");
  }
  if (x.rows() == 0 || w.rows() == 0) return;
  const Arithmetic arithmetic = type == DeviceType::kBFloat16 ? Arithmetic::kBFloat16 : Arithmetic::kFloat16;
  const int tokens = static_cast<int>(x.rows()), channels = static_cast<int>(w.rows()), inputs = static_cast<int>(x.columns());
  const uint8_t* const x_data = x.matrix.use_on<uint8_t>(stream);
  const uint8_t* const w_data = w.matrix.use_on<uint8_t>(stream);
  uint8_t* const y_data = y.use_on<uint8_t>(stream);
  const uint8_t* const added_data = added ? added->use_on<uint8_t>(stream) : nullptr;
  if (way.empty()) way = dense_way(channels, inputs, tokens);
  const bool takes_own = !way.empty() && way != "library";
  const CublasLtProduct::Shape shape{arithmetic,   tokens, inputs, channels, x.matrix.row_stride(), w.matrix.row_stride(), y.row_stride(), x.transposed,
                                     w.transposed, wide,   CublasLtProduct::loosely_aligned({x_data, w_data, y_data, added_data})};
  if (const CublasLtProduct* plan = takes_own ? nullptr : CublasLtProduct::prepared(shape)) {
    DeviceMemory workspace(CublasLtProduct::kWorkspaceBytes, stream);
    if (plan->run(0, x_data, w_data, y_data, workspace.data(), stream.handle(), scale, added_data, addend.factor)) return;
  }
  DenseGemmArguments product{};
  MatmulArguments& m = product.matmul;
  m.weight.codes = Codes::kFloat16Bit;
  m.weight.arithmetic = arithmetic;
  m.weight.channels = channels, m.weight.inputs = inputs;
  m.weight.blocks = (channels + kBlockChannels - 1) / kBlockChannels;
  m.weight.slices = (inputs + kStoredPerSlice - 1) / kStoredPerSlice;
  m.tokens = tokens;
  m.x = x_data, m.x_stride = x.matrix.row_stride();
  m.y = y_data, m.y_stride = y.row_stride();
  m.scale = scale;
  m.residual = added_data, m.residual_scale = addend.factor;
  product.w = w_data, product.w_stride = w.matrix.row_stride();
  product.x_transposed = x.transposed, product.w_transposed = w.transposed, product.wide = wide;
  if (kernel_architecture() == 90) {
    const std::optional<ManyTokensTile> tile = tile_of(way);
    dense_gemm_sm90(product, tile ? *tile : expected_many_tokens_plan(m.weight, tokens).tile, stream.handle());
  } else {
    dense_gemm_sm80(product, many_tokens_tile_sm80(channels, tokens), stream.handle());
  }
}

}  // namespace usmlite::cuda
