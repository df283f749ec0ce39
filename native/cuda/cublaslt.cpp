#include "cuda/cublaslt.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "cuda/runtime.hpp"

namespace usmlite::cuda {

/// cublasLtMatmulAlgo_t and, what is found out about it, cublasLtMatmulHeuristicResult_t.
struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

namespace {

// The part of cuBLASLt's C interface that is used (cuBLAS documentation, "Using the cuBLASLt API"); the library need not be
// installed where this is compiled.
using Status = int;
constexpr Status kSuccess = 0;
constexpr int kCompute32F = 68, kReal32F = 0, kReal16F = 2, kReal16BF = 14;
constexpr int kDescTransposeA = 3, kDescTransposeB = 4, kOperationNone = 0, kOperationTranspose = 1;
constexpr int kPreferenceMaxWorkspaceBytes = 1, kPreferenceMinAlignmentBytes[] = {5, 6, 7, 8};  // the latter of A, B, C and D, 256 by default

struct Library {
  Status (*create)(void**);
  Status (*desc_create)(void**, int compute_type, int scale_type);
  Status (*desc_destroy)(void*);
  Status (*desc_set)(void*, int attribute, const void*, size_t);
  Status (*layout_create)(void**, int type, uint64_t rows, uint64_t columns, int64_t leading_dimension);
  Status (*layout_destroy)(void*);
  Status (*preference_create)(void**);
  Status (*preference_destroy)(void*);
  Status (*preference_set)(void*, int attribute, const void*, size_t);
  Status (*heuristic)(void* handle, void* desc, void* a, void* b, void* c, void* d, void* preference, int wanted, HeuristicResult*, int* found);
  Status (*matmul)(void* handle, void* desc, const void* alpha, const void* a, void* a_layout, const void* b, void* b_layout, const void* beta,
                   const void* c, void* c_layout, void* d, void* d_layout, const Algorithm*, void* workspace, size_t workspace_bytes, void* stream);
  void* handle;
};

void* open_library() {
  // The environment variable names a file where the library is not on the loader's path.
  if (const char* path = std::getenv("USMLITE_CUBLASLT")) {
    if (void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

/// Null when there is none. Stays open until the process ends.
const Library* library() {
  static const Library* const found = []() -> const Library* {
    void* const file = open_library();
    if (!file) return nullptr;
    auto* const l = new Library{};
    bool complete = true;
    const auto load = [&](auto& function, const char* name) {
      void* const symbol = dlsym(file, name);
      complete = complete && symbol;
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    };
    load(l->create, "cublasLtCreate");
    load(l->desc_create, "cublasLtMatmulDescCreate");
    load(l->desc_destroy, "cublasLtMatmulDescDestroy");
    load(l->desc_set, "cublasLtMatmulDescSetAttribute");
    load(l->layout_create, "cublasLtMatrixLayoutCreate");
    load(l->layout_destroy, "cublasLtMatrixLayoutDestroy");
    load(l->preference_create, "cublasLtMatmulPreferenceCreate");
    load(l->preference_destroy, "cublasLtMatmulPreferenceDestroy");
    load(l->preference_set, "cublasLtMatmulPreferenceSetAttribute");
    load(l->heuristic, "cublasLtMatmulAlgoGetHeuristic");
    load(l->matmul, "cublasLtMatmul");
    if (!complete || l->create(&l->handle) != kSuccess) {
      delete l;
      return nullptr;
    }
    return l;
  }();
  return found;
}

}  // namespace

struct CublasLtProduct::State {
  static constexpr int kMaxWays = 8;
  void* desc = nullptr;
  void* w = nullptr;
  void* x = nullptr;
  void* y = nullptr;
  HeuristicResult ways[kMaxWays];
  int count = 0;

  ~State() {
    if (desc) library()->desc_destroy(desc);
    for (void* layout : {w, x, y}) {
      if (layout) library()->layout_destroy(layout);
    }
  }
};

bool CublasLtProduct::loosely_aligned(std::initializer_list<const void*> matrices) {
  return std::any_of(matrices.begin(), matrices.end(), [](const void* matrix) { return reinterpret_cast<uintptr_t>(matrix) % kAlignment != 0; });
}

CublasLtProduct::CublasLtProduct(std::unique_ptr<State> state) : state_(std::move(state)) {}
const CublasLtProduct* CublasLtProduct::prepared(const Shape& shape) {
  if (gpu_properties().emulated) return nullptr;
  static std::mutex mutex;
  static auto* const products = new std::map<Shape, std::unique_ptr<CublasLtProduct>>;  // leaked: the driver may end before statics
  const std::lock_guard lock(mutex);
  const auto [entry, fresh] = products->try_emplace(shape);
  if (fresh) entry->second = prepare(shape);
  return entry->second.get();
}

CublasLtProduct::~CublasLtProduct() = default;

std::unique_ptr<CublasLtProduct> CublasLtProduct::prepare(const Shape& s) {
  const Library* const l = library();
  if (!l) return nullptr;
  auto state = std::make_unique<State>();
  const int type = s.arithmetic == Arithmetic::kBFloat16 ? kReal16BF : kReal16F;
  // The library thinks in columns: yᵀ (channels, tokens) = W (inputs, channels)ᵀ . x (inputs, tokens).
  const int w_operation = s.w_transposed ? kOperationNone : kOperationTranspose;
  const int x_operation = s.x_transposed ? kOperationTranspose : kOperationNone;
  const auto layout = [&](void** made, bool inputs_first, int other, int64_t stride) {
    return l->layout_create(made, type, inputs_first ? s.inputs : other, inputs_first ? other : s.inputs, stride) == kSuccess;
  };
  bool good = l->desc_create(&state->desc, kCompute32F, kReal32F) == kSuccess &&
              l->desc_set(state->desc, kDescTransposeA, &w_operation, sizeof w_operation) == kSuccess &&
              l->desc_set(state->desc, kDescTransposeB, &x_operation, sizeof x_operation) == kSuccess &&
              layout(&state->w, !s.w_transposed, s.channels, s.w_stride) && layout(&state->x, !s.x_transposed, s.tokens, s.x_stride) &&
              l->layout_create(&state->y, s.float32_sums ? kReal32F : type, s.channels, s.tokens, s.y_stride) == kSuccess;
  void* preference = nullptr;
  const size_t workspace = kWorkspaceBytes;
  good = good && l->preference_create(&preference) == kSuccess &&
         l->preference_set(preference, kPreferenceMaxWorkspaceBytes, &workspace, sizeof workspace) == kSuccess;
  const uint32_t alignment = 16;
  for (const int attribute : kPreferenceMinAlignmentBytes) {
    good = good && (!s.loosely_aligned || l->preference_set(preference, attribute, &alignment, sizeof alignment) == kSuccess);
  }
  good = good && l->heuristic(l->handle, state->desc, state->w, state->x, state->y, state->y, preference, State::kMaxWays, state->ways,
                              &state->count) == kSuccess;
  if (preference) l->preference_destroy(preference);
  if (!good || state->count == 0) return nullptr;
  return std::unique_ptr<CublasLtProduct>(new CublasLtProduct(std::move(state)));
}

int CublasLtProduct::ways() const { return state_->count; }

bool CublasLtProduct::run(int way, const void* x, const void* w, void* y, void* workspace, void* stream, float scale, const void* addend,
                          float factor) const {
  const Library* const l = library();
  if (!addend) addend = y, factor = 0.0f;
  return l->matmul(l->handle, state_->desc, &scale, w, state_->w, x, state_->x, &factor, addend, state_->y, y, state_->y,
                   &state_->ways[way].algorithm, workspace, kWorkspaceBytes, stream) == kSuccess;
}

}  // namespace usmlite::cuda
