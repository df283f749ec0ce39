/** Suite `matmul-cuda`: products with packed weights on a GPU, beside cuBLASLt and cuSPARSELt in turn on the same GPU. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  DeviceTensor,
  DeviceWeight,
  gpuInformation,
  hasGpu,
  packWeight,
  quantizeRows,
  synchronizeGpu,
  Tensor,
  tidy,
  trimGpuMemory,
  type Arithmetic,
  type QuantizedRows,
} from "../../lib/index.js";
import { deviceLinearArguments } from "../../lib/device/device_linear.js";
import type { DeviceWeightHandle } from "../../lib/device/device_weight.js";
import { gpuAddon } from "../../lib/device/gpu.js";
import { measureInTurn, type Contestant } from "../measure.js";
import { PytorchPeer } from "../peers/pytorch.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";
import { values } from "../values.js";
import { cases, emulatedCases, type CudaCase, type Kernel } from "./matmul_cuda_cases.js";

type LinearArguments = ReturnType<typeof deviceLinearArguments>;

/** What follows the weight. */
type Tail = LinearArguments extends [unknown, unknown, unknown, ...infer Rest] ? Rest : never;

interface MeasuringBindings {
  limitKernelArchitecture(limit: 80 | 0): void;
  deviceWeightRepeat(weight: DeviceWeightHandle, times: number): DeviceWeightHandle;
  deviceLinearTimes(
    ...words: [LinearArguments[0], LinearArguments[1], weights: DeviceWeightHandle[], ...Tail, launches: number, repetitions: number]
  ): Float64Array;
}

/** What this GPU reaches at best, measured by the libraries: bytes and operations per second. */
interface Ceilings {
  bytesPerSecond: number;
  bfloat16: number;
  int8?: number;
  float8?: number;
}

const cacheBytes = 160 * 2 ** 20; // what the copies of a weight should exceed: three times the cache of an H100
const mostCopies = 64;
const patternRows = 64;
const millisecondsPerTurn = 2;
const rounds = 7;
const mostSecondsOfPeer = 20;

const native = (): MeasuringBindings => gpuAddon<MeasuringBindings>();

/** Random numbers that repeat after a while: speed does not depend on them, and making them should not take long. */
function repeated(count: number): Float32Array {
  const pattern = values(Math.min(count, 1 << 16));
  const all = new Float32Array(count);
  for (let begin = 0; begin < count; begin += pattern.length) all.set(pattern.subarray(0, count - begin), begin);
  return all;
}

class OwnProduct {
  readonly weightBytes: number;
  private readonly weights: DeviceWeightHandle[] = [];
  private readonly x: DeviceTensor;
  private readonly codes: QuantizedRows | undefined;
  private readonly pattern: DeviceWeight;

  constructor(
    { m, n, k }: CudaCase,
    private readonly kernel: Kernel,
  ) {
    this.pattern = tidy(() =>
      DeviceWeight.from(packWeight(Tensor.from(values(patternRows * k), [patternRows, k]), kernel.spec), { arithmetic: kernel.arithmetic }),
    );
    this.weightBytes = (this.pattern.bytes * n) / patternRows;
    const copies = gpuInformation().emulated ? 2 : Math.min(mostCopies, Math.ceil(cacheBytes / this.weightBytes));
    for (let copy = 0; copy < copies; copy++) this.weights.push(native().deviceWeightRepeat(this.pattern.handle, n / patternRows));
    this.x = tidy(() => DeviceTensor.from(Tensor.from(repeated(m * k), [m, k])));
    // Rounding activations to 8 bits is work of its own: the libraries' products leave it out too.
    this.codes = kernel.arithmetic === "int8" || kernel.arithmetic === "float8" ? quantizeRows(this.x, kernel.arithmetic) : undefined;
  }

  times(repetitions: number): number[] {
    const [x, rowScales, , ...rest] = deviceLinearArguments(this.codes ?? this.x, this.pattern, {});
    const time = (launches: number, runs: number): number[] => [
      ...native().deviceLinearTimes(x, rowScales, this.weights, ...rest, launches, runs),
    ];
    native().limitKernelArchitecture(this.kernel.ampere ? 80 : 0);
    try {
      const estimate = Math.min(...time(this.weights.length, 1));
      const launches = Math.min(
        gpuInformation().emulated ? 2 : 500,
        Math.max(this.weights.length, Math.ceil(millisecondsPerTurn / Math.max(estimate, 1e-3))),
      );
      return time(launches, repetitions);
    } finally {
      native().limitKernelArchitecture(0);
    }
  }

  dispose(): void {
    for (const weight of this.weights) weight.release();
    this.pattern.dispose();
    this.x.dispose();
    this.codes?.codes.dispose();
    this.codes?.scales.dispose();
  }
}

/** The share of the card's measured ceiling: the time that memory or tensor cores take at best, by the time taken. */
function shareOfCeiling(ms: number, bytes: number, operations: number, peak: number, { bytesPerSecond }: Ceilings): number {
  return Math.max(bytes / bytesPerSecond, operations / peak) / (ms / 1e3);
}

function peakOf(arithmetic: "bfloat16" | "float16" | "int8" | "float8", isSparse: boolean, ceilings: Ceilings): number {
  const eightBit = arithmetic === "int8" ? ceilings.int8 : arithmetic === "float8" ? ceilings.float8 : undefined;
  return (eightBit ?? ceilings.bfloat16) * (isSparse ? 2 : 1);
}

interface PeerAnswer {
  ms?: number[];
  error?: string;
  version?: string;
  ways?: number;
  graph?: boolean;
}

/** A library that does not come back is given up, and with it all others of its process. */
async function answerOf(python: PytorchPeer, request: object): Promise<PeerAnswer> {
  const late = new AbortController();
  const tooLate = sleep(1000 * mostSecondsOfPeer, { error: `no answer within ${mostSecondsOfPeer} seconds` }, { signal: late.signal });
  tooLate.catch(() => {});
  const answer = python.ask(JSON.stringify(request)).catch((error: Error) => ({ error: error.message }));
  const first = (await Promise.race([answer, tooLate])) as PeerAnswer;
  late.abort();
  if (first.error?.startsWith("no answer")) python.stop();
  return first;
}

/** Peers that cannot do the work are left out, with a line of log. */
async function peerContestants(
  work: CudaCase,
  python: PytorchPeer,
  context: BenchmarkContext,
): Promise<(Contestant & { bytes: number; peak: Parameters<typeof peakOf>[0]; sparse: boolean })[]> {
  const { m, n, k } = work;
  const list = [];
  for (const peer of work.peers) {
    const ask = (rounds: number): Promise<PeerAnswer> => answerOf(python, { peer, m, n, k, milliseconds: millisecondsPerTurn, rounds });
    const first = await ask(1);
    if (!first.ms) {
      context.log(`${peer} is left out of ${m}x${n}x${k}: ${first.error}`);
      continue;
    }
    const [library, kind] = peer.split("-") as [string, "bfloat16" | "float8" | "int8"];
    const isSparse = library === "cusparselt";
    const note = [first.ways && `best of ${first.ways} algorithms`, first.graph === false && "not in a graph"].filter(Boolean).join("; ");
    list.push({
      impl: `${library === "cublaslt" ? "cuBLASLt" : "cuSPARSELt"} ${first.version ?? ""}`.trim(),
      spec: isSparse ? `${kind === "bfloat16" ? "float32" : kind}+2:4` : kind,
      bytes: n * k * (kind === "bfloat16" ? 2 : 1) * (isSparse ? 0.5625 + (kind === "bfloat16" ? 0 : 0.0625) : 1),
      peak: kind,
      sparse: isSparse,
      ...(note && { note }),
      run: async (repetitions: number) => (await ask(repetitions)).ms ?? [],
    });
  }
  return list;
}

function ownContestants(work: CudaCase, context: BenchmarkContext): (Contestant & { bytes: number; peak: Arithmetic; sparse: boolean })[] {
  const list = [];
  for (const kernel of work.kernels) {
    try {
      const product = new OwnProduct(work, kernel);
      product.times(1);
      list.push({
        impl: kernel.ampere ? "usm-lite for sm_80" : "usm-lite",
        spec: kernel.spec,
        note: `${kernel.arithmetic} arithmetic`,
        bytes: product.weightBytes,
        peak: kernel.arithmetic,
        sparse: kernel.spec.includes("+"),
        run: (repetitions: number) => product.times(repetitions),
        dispose: () => product.dispose(),
      });
    } catch (error) {
      context.log(`${kernel.spec} in ${kernel.arithmetic} is left out of ${work.m}x${work.n}x${work.k}: ${(error as Error).message}`);
    }
  }
  return list;
}

async function run(context: BenchmarkContext): Promise<void> {
  if (!hasGpu()) return context.log("matmul-cuda is left out: there is no GPU to compute on (usm-lite doctor says why)");
  const deadline = performance.now() + 1000 * Number(process.env["USMLITE_BENCH_SECONDS"] ?? Infinity);
  const gpu = gpuInformation();
  context.log(`${gpu.name}, CUDA ${gpu.driverVersion}`);
  const python = gpu.emulated ? undefined : await PytorchPeer.start("cuda_matmul.py", [], context.log);
  const ceilings = ((await python?.ask('{"ceilings": true}').catch(() => undefined)) ?? {
    bytesPerSecond: Infinity,
    bfloat16: Infinity,
  }) as Ceilings;
  if (python) context.log(`ceilings: ${JSON.stringify(ceilings)}`);
  for (const work of gpu.emulated ? emulatedCases : cases) {
    if (performance.now() > deadline) {
      context.log("the time is over: the remaining cases are left out");
      break;
    }
    const { m, n, k } = work;
    const contestants = [...ownContestants(work, context), ...(python ? await peerContestants(work, python, context) : [])];
    const timings = await measureInTurn(contestants, { rounds, millisecondsPerTurn: 0, millisecondsBetween: 1 });
    synchronizeGpu();
    trimGpuMemory();
    contestants.forEach(({ impl, spec, note, bytes, peak, sparse: isSparse }, index) => {
      const timing = timings[index];
      if (!timing || !Number.isFinite(timing.ms)) return;
      const operations = 2 * m * n * k;
      const moved = bytes + 2 * m * (n + k);
      const share = python ? shareOfCeiling(timing.ms, moved, operations, peakOf(peak, isSparse, ceilings), ceilings) : undefined;
      context.record({
        suite: "matmul-cuda",
        case: `${m}x${k}x${n}`,
        impl,
        spec,
        device: "cuda",
        threads: 1,
        shape: { m, n, k },
        ...timing,
        gops: operations / timing.ms / 1e6,
        weightBytes: bytes,
        ...(share !== undefined && { share }),
        ...(note && { note }),
      });
    });
  }
  python?.stop();
}

export const matmulCuda: BenchmarkSuite = { name: "matmul-cuda", run };
