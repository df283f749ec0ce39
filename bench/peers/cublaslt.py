"""cuBLASLt through ctypes: every way of computing a product that the library proposes, so that the best can be taken."""
import ctypes

import torch

R_32F, R_8I, R_32I, R_16BF, R_8F_E4M3 = 0, 3, 10, 14, 28  # cudaDataType_t
COMPUTE_32F, COMPUTE_32I = 68, 72  # cublasComputeType_t
DESCRIPTION_TRANSA, DESCRIPTION_FAST_ACCUMULATION = 3, 25  # cublasLtMatmulDescAttributes_t
PREFERENCE_WORKSPACE = 1  # cublasLtMatmulPreferenceAttributes_t
TRANSPOSED = 1
WORKSPACE_BYTES = 64 << 20
MOST_WAYS = 24

# by kind: types of x and W, of y, of the sum, of the factors
KINDS = {
    "bfloat16": (R_16BF, R_16BF, COMPUTE_32F, R_32F),
    "float8": (R_8F_E4M3, R_16BF, COMPUTE_32F, R_32F),
    "int8": (R_8I, R_32I, COMPUTE_32I, R_32I),
}
OUTPUT_TYPES = {"bfloat16": torch.bfloat16, "float8": torch.bfloat16, "int8": torch.int32}


class HeuristicResult(ctypes.Structure):
    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


def load():
    for name in ("libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("libcublasLt was not found")


class Cublaslt:
    def __init__(self):
        torch.zeros(1, device="cuda") @ torch.zeros(1, device="cuda")  # torch loads its own copy of the library
        self.library = load()
        self.library.cublasLtGetVersion.restype = ctypes.c_size_t
        self.handle = ctypes.c_void_p()
        self.check(self.library.cublasLtCreate(ctypes.byref(self.handle)))
        self.workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")

    @property
    def version(self):
        number = self.library.cublasLtGetVersion()
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    @staticmethod
    def check(status):
        if status != 0:
            raise RuntimeError(f"cuBLASLt status {status}")

    def layout(self, kind, rows, columns):
        layout = ctypes.c_void_p()
        self.check(self.library.cublasLtMatrixLayoutCreate(
            ctypes.byref(layout), ctypes.c_int(kind), ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows)))
        return layout

    def ways(self, kind, m, n, k):
        """Functions (x (m, k), weight (n, k), y (m, n)) that give y = x W^T in the current stream, likely fastest first.

        Row-major y (m, n) is column-major (n, m) = (W as (k, n))^T (x as (k, m)).
        """
        element, output, compute, factor = KINDS[kind]
        description = ctypes.c_void_p()
        self.check(self.library.cublasLtMatmulDescCreate(ctypes.byref(description), compute, factor))
        transposed = ctypes.c_int32(TRANSPOSED)
        self.check(self.library.cublasLtMatmulDescSetAttribute(
            description, DESCRIPTION_TRANSA, ctypes.byref(transposed), ctypes.sizeof(transposed)))
        if kind == "float8":
            fast = ctypes.c_int8(1)
            self.library.cublasLtMatmulDescSetAttribute(description, DESCRIPTION_FAST_ACCUMULATION, ctypes.byref(fast), 1)
        weight_layout, x_layout, y_layout = self.layout(element, k, n), self.layout(element, k, m), self.layout(output, n, m)
        preference = ctypes.c_void_p()
        self.check(self.library.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)))
        limit = ctypes.c_size_t(WORKSPACE_BYTES)
        self.check(self.library.cublasLtMatmulPreferenceSetAttribute(
            preference, PREFERENCE_WORKSPACE, ctypes.byref(limit), ctypes.sizeof(limit)))
        results = (HeuristicResult * MOST_WAYS)()
        count = ctypes.c_int()
        self.check(self.library.cublasLtMatmulAlgoGetHeuristic(
            self.handle, description, weight_layout, x_layout, y_layout, y_layout, preference, MOST_WAYS, results,
            ctypes.byref(count)))
        one, zero = (ctypes.c_int32(1), ctypes.c_int32(0)) if kind == "int8" else (ctypes.c_float(1), ctypes.c_float(0))

        def way(result):
            def run(x, weight, y):
                self.check(self.library.cublasLtMatmul(
                    self.handle, description, ctypes.byref(one), ctypes.c_void_p(weight.data_ptr()), weight_layout,
                    ctypes.c_void_p(x.data_ptr()), x_layout, ctypes.byref(zero), ctypes.c_void_p(y.data_ptr()), y_layout,
                    ctypes.c_void_p(y.data_ptr()), y_layout, ctypes.byref(result.algorithm),
                    ctypes.c_void_p(self.workspace.data_ptr()), ctypes.c_size_t(WORKSPACE_BYTES),
                    ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)))
            return run

        return [way(results[i]) for i in range(count.value) if results[i].state == 0]
