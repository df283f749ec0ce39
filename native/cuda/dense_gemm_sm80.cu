// Both operands come in rows, in units of 128 bytes (tile_sm80.cuh), and are loaded as fragments by ldmatrix.
#include "cuda/dense_gemm_sm80.hpp"

#include "cuda/launch.hpp"
#include "cuda/tile_sm80.cuh"

namespace usmlite::cuda {

namespace {

struct DenseGemmSm80Arguments {
  MatmulArguments matmul;  // of its weight, only the shape and arithmetic
  TileOrder order;
  const void* w;
  int64_t w_stride;  // elements
};

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

  const RowCopies<Tile::kTokens, Tile::kThreads> x(m.x, m.x_stride * 2, m.weight.inputs * 2, first_token, m.tokens);
  const RowCopies<Tile::kChannels, Tile::kThreads> w(arguments.w, arguments.w_stride * 2, m.weight.inputs * 2, first_channel, m.weight.channels);
  const auto start_unit = [&](int unit, int stage) {
    if (unit < units) {
      x.template start<true>(unit, shared + stage * K::kStageBytes);
      w.template start<true>(unit, shared + stage * K::kStageBytes + K::kActivationBytes);
    }
    ptx::copy_async_commit();
  };
#pragma unroll
  for (int unit = 0; unit < K::kStages - 1; ++unit) start_unit(unit, unit);

  float d[Tile::WarpTiles][Tile::Columns][4] = {};
  int stage = 0;
#pragma unroll 1
  for (int unit = 0; unit < units; ++unit) {
    ptx::copy_async_wait<K::kStages - 2>();
    ptx::block_sync();  // the unit has come for all, and the one before, whose stage is filled next, is read
    start_unit(unit + K::kStages - 1, stage == 0 ? K::kStages - 1 : stage - 1);
    const unsigned char* const tokens = shared + stage * K::kStageBytes + warp.first_token * kUnitBytes;
    const unsigned char* const channels = shared + stage * K::kStageBytes + K::kActivationBytes + warp.first_tile * kTileChannels * kUnitBytes;
    const auto step = [&]<int kStep>() {
      TokenFragments<Tile, false> b;
      b.template load<kStep>(tokens, warp.lane);
#pragma unroll
      for (int i = 0; i < Tile::WarpTiles; ++i) {
        uint32_t a[4];
        const int row = i * kTileChannels + warp.lane % 16, piece = 2 * kStep + warp.lane / 16;
        ptx::load_matrix_x4(a, channels + swizzled_piece(row, piece));
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
  ptx::copy_async_wait<0>();
  ptx::block_sync();
  store_sums_sm80<Output<K::A>, Tile>(m, d, first_channel + warp.first_tile * kTileChannels, first_token + warp.first_token, warp.lane,
                                      reinterpret_cast<float*>(shared + ptx::warp_id() * StagingSm80<Tile>::kWarpBytes));
}

template <Arithmetic A, class Tile> void start(const MatmulArguments& m, const void* w, int64_t w_stride, StreamHandle stream) {
  using K = DenseGemmSm80<A, Tile>;
  const DenseGemmSm80Arguments arguments{m, tile_order_sm80<Tile>(m.tokens, m.weight.channels), w, w_stride};
  const LaunchShape shape{.grid_x = static_cast<unsigned>(arguments.order.count()),
                          .grid_y = 1,
                          .grid_z = 1,
                          .threads = Tile::kThreads,
                          .shared_bytes = K::kSharedBytes,
                          .overlaps_previous = kernels_take_turns()};
  launch(dense_gemm_sm80_kernel<K>, shape, stream, arguments);
}

}  // namespace

void dense_gemm_sm80(const MatmulArguments& arguments, const void* w, int64_t w_stride, ManyTokensTileSm80 tile, StreamHandle stream) {
  if (arguments.weight.arithmetic == Arithmetic::kFloat16) return start<Arithmetic::kFloat16, MediumTileSm80>(arguments, w, w_stride, stream);
  if (tile == ManyTokensTileSm80::kSmall) return start<Arithmetic::kBFloat16, SmallTileSm80>(arguments, w, w_stride, stream);
  start<Arithmetic::kBFloat16, MediumTileSm80>(arguments, w, w_stride, stream);
}

}  // namespace usmlite::cuda
