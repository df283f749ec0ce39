/** What suite `matmul-cuda` multiplies, with which kernels and beside which peers. */
import type { Arithmetic } from "../../lib/index.js";

/** One of our kernels: how the weight is coded and what the tensor cores multiply. */
export interface Kernel {
  spec: string;
  arithmetic: Arithmetic;
  /** Whether the kernels of GPUs before Hopper are made to run, which otherwise run on these alone. */
  ampere?: boolean;
}

type Peer = "cublaslt-bfloat16" | "cublaslt-float8" | "cublaslt-int8" | "cusparselt-bfloat16" | "cusparselt-int8";

/** y (m, n) = x (m, k) Wᵀ */
export interface CudaCase {
  m: number;
  n: number;
  k: number;
  kernels: readonly Kernel[];
  peers: readonly Peer[];
}

const bf16 = (spec: string): Kernel => ({ spec, arithmetic: "bfloat16" });
const whole = (spec: string): Kernel => ({ spec, arithmetic: "int8" });
const float8 = ["float32+2:4", "float32"].map((spec): Kernel => ({ spec, arithmetic: "float8" }));

const sparse = [bf16("float32+2:4"), bf16("int4+2:4"), whole("int8+2:4"), whole("int4+2:4")];
const dense = [bf16("float32"), bf16("int4"), whole("int8")];
/** Scales of groups, and zero points, enter on the way. */
const grouped = [whole("int4/g128"), whole("uint4/g64")];
const ampere = [bf16("float32+2:4"), bf16("int4+2:4"), bf16("int4"), whole("int8+2:4")].map((kernel) => ({ ...kernel, ampere: true }));
const memoryBound = [bf16("int4"), bf16("int4/g128"), bf16("int4+2:4")];
const allPeers: readonly Peer[] = ["cublaslt-bfloat16", "cublaslt-int8", "cusparselt-bfloat16", "cusparselt-int8"];

/** The most telling first: a run that is short of time ends early. */
export const cases: readonly CudaCase[] = [
  { m: 1, n: 8192, k: 8192, kernels: memoryBound, peers: ["cublaslt-bfloat16"] },
  { m: 16, n: 8192, k: 8192, kernels: memoryBound, peers: ["cublaslt-bfloat16"] },
  { m: 1, n: 12288, k: 36864, kernels: [whole("int4"), bf16("int4")], peers: ["cublaslt-bfloat16", "cublaslt-float8"] },
  { m: 1024, n: 4096, k: 1024, kernels: [...sparse, ...dense, ...grouped, ...float8, ...ampere], peers: [...allPeers, "cublaslt-float8"] },
  { m: 256, n: 2048, k: 2048, kernels: [...sparse, bf16("float32"), ...ampere], peers: allPeers },
  { m: 4096, n: 4096, k: 1024, kernels: [...sparse, bf16("float32"), ...ampere], peers: allPeers },
  { m: 16, n: 18432, k: 73728, kernels: memoryBound, peers: ["cublaslt-bfloat16"] },
  { m: 32, n: 8192, k: 8192, kernels: memoryBound, peers: ["cublaslt-bfloat16"] },
  { m: 256, n: 4096, k: 1024, kernels: sparse, peers: allPeers },
  { m: 1024, n: 1024, k: 4096, kernels: sparse, peers: allPeers },
  { m: 1024, n: 6144, k: 1536, kernels: sparse, peers: allPeers },
  { m: 4096, n: 3072, k: 3072, kernels: sparse, peers: allPeers },
  { m: 256, n: 2048, k: 512, kernels: sparse, peers: allPeers },
  { m: 1024, n: 2048, k: 512, kernels: sparse, peers: allPeers },
  { m: 1024, n: 3072, k: 3072, kernels: sparse, peers: allPeers },
  {
    m: 1,
    n: 8192,
    k: 8192,
    kernels: [bf16("int2"), bf16("int1"), bf16("int3"), bf16("nf4/g64"), bf16("int8"), bf16("int2+2:4")],
    peers: ["cublaslt-bfloat16"],
  },
  { m: 16, n: 4096, k: 4096, kernels: [...memoryBound, ...grouped], peers: ["cublaslt-bfloat16"] },
  { m: 16, n: 4096, k: 11008, kernels: memoryBound, peers: ["cublaslt-bfloat16"] },
  { m: 16, n: 2048, k: 512, kernels: memoryBound, peers: ["cublaslt-bfloat16"] },
];

/** On the emulator only whether all of this works is of interest. */
export const emulatedCases: readonly CudaCase[] = [
  {
    m: 4,
    n: 128,
    k: 256,
    kernels: [bf16("int4+2:4"), whole("int8"), ...grouped, ...float8, { ...bf16("int4+2:4"), ampere: true }],
    peers: [],
  },
];
