// Both operands come in units of 64 inputs (tile_sm80.cuh), rows of them or, of a transposed operand, rows of tokens or channels, and are
// loaded as fragments by ldmatrix, which transposes the latter.
#include "cuda/dense_gemm_sm80.hpp"

#include "cuda/launch.hpp"
#include "cuda/operand_order.cuh"
#include "cuda/tile_sm80.cuh"

namespace usmlite::cuda {

namespace {

struct DenseGemmSm80Arguments : DenseGemmArguments {
  TileOrder order;
};

/// How units of an operand are copied, of which `Rows` tokens or channels are a block's.
template <int Rows, int Threads, bool Transposed> struct UnitCopies : RowCopies<Rows, Threads> {
  __device__ __forceinline__ UnitCopies(const void* matrix, int64_t stride, int inputs, int first_row, int rows)
      : RowCopies<Rows, Threads>(matrix, stride * 2, inputs * 2, first_row, rows) {}
  __device__ __forceinline__ void start(int unit, unsigned char* stage) const { RowCopies<Rows, Threads>::template start<true>(unit, stage); }
};
template <int Rows, int Threads> struct UnitCopies<Rows, Threads, true> : ColumnCopies<Rows, Threads> {
  __device__ __forceinline__ UnitCopies(const void* matrix, int64_t stride, int inputs, int first_row, int rows)
      : ColumnCopies<Rows, Threads>(matrix, stride * 2, inputs, first_row, rows) {}
};

/// The `a` fragments of a step: 16 channels from `channel` on of a block whose units lie at `unit`.
template <int kStep, bool Transposed>
__device__ __forceinline__ void load_channels(uint32_t (&a)[4], const unsigned char* unit, int channel, int lane) {
  if constexpr (Transposed) {
    const int row = kStep * 16 + lane / 16 * 8 + lane % 8, piece = channel % 64 / 8 + lane / 8 % 2;
    ptx::load_matrix_transposed_x4(a, unit + channel / 64 * (64 * kUnitBytes) + swizzled_piece(row, piece));
  } else {
    ptx::load_matrix_x4(a, unit + swizzled_piece(channel + lane % 16, 2 * kStep + lane / 16));
  }
}

template <Arithmetic A_, class Tile_> struct DenseGemmSm80 {
  static constexpr Arithmetic A = A_;
  using Tile = Tile_;
  static constexpr int kUnitInputs = kUnitBytes / 2, kSteps = 4;
  static constexpr int kActivationBytes = Tile::kTokens * kUnitBytes, kStageBytes = kActivationBytes + Tile::kChannels * kUnitBytes;
  static constexpr int kStages = Tile::kMostSharedBytes / kStageBytes < 4 ? Tile::kMostSharedBytes / kStageBytes : 4;
  static_assert(kStages >= 2);
  static constexpr int kStagingBytes = StagingSm80<Tile>::kBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes > kStagingBytes ? kStages * kStageBytes : kStagingBytes;
};

template <class K>
__global__ void __launch_bounds__(K::Tile::kThreads, K::Tile::Residency)
    dense_gemm_sm80_kernel(const __grid_constant__ DenseGemmSm80Arguments arguments) {
  using Tile = typename K::Tile;
  const MatmulArguments& m = arguments.matmul;
  unsigned char* const shared = shared_memory();
  const WarpPlaceSm80<Tile> warp;
  int token_tile, channel_tile;
  arguments.order.tile(static_cast<int>(blockIdx.x), token_tile, channel_tile);
  const int first_token = token_tile * Tile::kTokens, first_channel = channel_tile * Tile::kChannels;
  const int units = (m.weight.inputs + K::kUnitInputs - 1) / K::kUnitInputs;
  ptx::take_turn();

  float d[Tile::WarpTiles][Tile::Columns][4] = {};
  in_order_of(arguments, [&]<bool XTransposed, bool WTransposed>() {
    const UnitCopies<Tile::kTokens, Tile::kThreads, XTransposed> x(m.x, m.x_stride, m.weight.inputs, first_token, m.tokens);
    const UnitCopies<Tile::kChannels, Tile::kThreads, WTransposed> w(arguments.w, arguments.w_stride, m.weight.inputs, first_channel,
                                                                     m.weight.channels);
    const auto start_unit = [&](int unit, int stage) {
      if (unit < units) {
        x.start(unit, shared + stage * K::kStageBytes);
        w.start(unit, shared + stage * K::kStageBytes + K::kActivationBytes);
      }
      ptx::copy_async_commit();
    };
#pragma unroll
    for (int unit = 0; unit < K::kStages - 1; ++unit) start_unit(unit, unit);

    int stage = 0;
#pragma unroll 1
    for (int unit = 0; unit < units; ++unit) {
      ptx::copy_async_wait<K::kStages - 2>();
      ptx::block_sync();  // the unit has come for all, and the one before, whose stage is filled next, is read
      start_unit(unit + K::kStages - 1, stage == 0 ? K::kStages - 1 : stage - 1);
      const unsigned char* const tokens = shared + stage * K::kStageBytes;
      const unsigned char* const channels = tokens + K::kActivationBytes;
      const auto step = [&]<int kStep>() {
        TokenFragments<Tile, false> b;
        if constexpr (XTransposed) b.template load_transposed<kStep>(tokens, warp.first_token, warp.lane);
        else b.template load<kStep>(tokens + warp.first_token * kUnitBytes, warp.lane);
#pragma unroll
        for (int i = 0; i < Tile::WarpTiles; ++i) {
          uint32_t a[4];
          load_channels<kStep, WTransposed>(a, channels, (warp.first_tile + i) * kTileChannels, warp.lane);
#pragma unroll
          for (int column = 0; column < Tile::Columns; ++column) {
            const uint32_t of_column[2] = {b.registers[column / 2][column % 2 * 2], b.registers[column / 2][column % 2 * 2 + 1]};
            ptx::mma<Operand<K::A>>(d[i][column], a, of_column);
          }
        }
      };
      step.template operator()<0>(), step.template operator()<1>(), step.template operator()<2>(), step.template operator()<3>();
      static_assert(K::kSteps == 4);
      stage = stage + 1 == K::kStages ? 0 : stage + 1;
    }
  });
  ptx::copy_async_wait<0>();
  ptx::block_sync();
  store_sums_sm80<Output<K::A>, Tile, false, true>(m, d, first_channel + warp.first_tile * kTileChannels, first_token + warp.first_token, warp.lane,
                                                   reinterpret_cast<float*>(shared + ptx::warp_id() * StagingSm80<Tile>::kWarpBytes), arguments.wide);
}

template <Arithmetic A, class Tile> void start(const DenseGemmArguments& product, StreamHandle stream) {
  using K = DenseGemmSm80<A, Tile>;
  const DenseGemmSm80Arguments arguments{product, tile_order_sm80<Tile>(product.matmul.tokens, product.matmul.weight.channels)};
  const LaunchShape shape{.grid_x = static_cast<unsigned>(arguments.order.count()),
                          .grid_y = 1,
                          .grid_z = 1,
                          .threads = Tile::kThreads,
                          .shared_bytes = K::kSharedBytes,
                          .overlaps_previous = kernels_take_turns()};
  launch(dense_gemm_sm80_kernel<K>, shape, stream, arguments);
}

}  // namespace

void dense_gemm_sm80(const DenseGemmArguments& arguments, ManyTokensTileSm80 tile, StreamHandle stream) {
  if (arguments.matmul.weight.arithmetic == Arithmetic::kFloat16) return start<Arithmetic::kFloat16, MediumTileSm80>(arguments, stream);
  if (tile == ManyTokensTileSm80::kSmall) return start<Arithmetic::kBFloat16, SmallTileSm80>(arguments, stream);
  start<Arithmetic::kBFloat16, MediumTileSm80>(arguments, stream);
}

}  // namespace usmlite::cuda
