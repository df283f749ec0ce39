/** What this installation computes with, for `usm-lite doctor`. */
import { cpus, totalmem } from "node:os";
import { UsmLiteError } from "../errors.js";
import { availableInstructionSets, instructionSet, threadCount, type InstructionSet } from "../native/runtime.js";
import { linear } from "../ops/linear.js";
import { Tensor } from "../tensor/tensor.js";
import { tidy } from "../tensor/scope.js";
import { packWeight } from "../quant/packed_weight.js";
import { deviceLinear } from "./device_linear.js";
import { DeviceTensor } from "./device_tensor.js";
import { DeviceWeight } from "./device_weight.js";
import { gpuFreeMemory, gpuInformation, type GpuInformation } from "./gpu.js";

export interface Examination {
  readonly node: string;
  readonly processor: {
    readonly name: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly instructionSet: InstructionSet;
    readonly available: readonly InstructionSet[];
    readonly threads: number;
  };
  /** Absent: none to compute on; `advice` says why. */
  readonly gpu?: GpuInformation & { readonly freeBytes: number; readonly kernels: string; readonly works: boolean };
  /** What is missing or slow, and what would be right. */
  readonly advice: readonly string[];
}

/** Looks at the processor and the GPU, and multiplies a small matrix on each. */
export function examine(): Examination {
  const advice: string[] = [];
  const available = availableInstructionSets();
  const active = instructionSet();
  if (available.length === 1) advice.push("This processor lacks AVX2: only the slow reference kernels run.");
  if (active !== available.at(-1)) advice.push(`USMLITE_ISA or a program chose ${active} although this processor has ${available.at(-1)}.`);
  if (!multipliesOnProcessor()) advice.push("A product on the processor came out wrong: the installation is broken; reinstall it.");
  const gpu = examineGpu(advice);
  return {
    node: process.version,
    processor: {
      name: cpus()[0]?.model.trim() ?? "unknown",
      cores: cpus().length,
      memoryBytes: totalmem(),
      instructionSet: active,
      available,
      threads: threadCount(),
    },
    ...(gpu ? { gpu } : {}),
    advice,
  };
}

function examineGpu(advice: string[]): Examination["gpu"] {
  try {
    const gpu = gpuInformation();
    const works = multipliesOnGpu();
    if (!works) advice.push("A product on the GPU came out wrong: reinstall the package where this GPU and nvcc are.");
    return { ...gpu, freeBytes: gpuFreeMemory(), kernels: kernelsFor(gpu.computeCapability), works };
  } catch (error) {
    if (!(error instanceof UsmLiteError)) throw error;
    advice.push(`GPU: ${error.message} [${error.code}]`);
    return undefined;
  }
}

/** Which kernels a GPU gets. */
function kernelsFor(computeCapability: number): string {
  if (computeCapability === 9) return "sm_90a: wgmma and tensor copies for many tokens, mma.sync for few";
  if (computeCapability > 9) return "sm_80 and sm_89 code, translated for this GPU when first used: mma.sync";
  return computeCapability === 8.9 ? "sm_80, and sm_89 for e4m3: mma.sync" : "sm_80: mma.sync";
}

const [rows, columns] = [16, 64] as const;
const input = (): Tensor =>
  Tensor.from(
    Float32Array.from({ length: columns }, (_, i) => (i % 7) - 3),
    [1, columns],
  );
const weight = (): Tensor =>
  Tensor.from(
    Float32Array.from({ length: rows * columns }, (_, i) => (i % 15) - 7),
    [rows, columns],
  );

/** By definition. */
function expected(): number[] {
  return tidy(() => {
    const [x, w] = [input().toArray(), weight().toArray()];
    return Array.from({ length: rows }, (_, row) => x.reduce((sum, value, i) => sum + value * (w[row * columns + i] as number), 0));
  });
}

const agrees = (product: Float32Array): boolean =>
  expected().every((value, i) => Math.abs(value - (product[i] as number)) <= Math.abs(value) / 128);

function multipliesOnProcessor(): boolean {
  return tidy(() => agrees(linear(input(), weight()).toArray()));
}

function multipliesOnGpu(): boolean {
  return tidy(() => {
    using packed = DeviceWeight.from(packWeight(weight(), "int4"));
    return agrees(deviceLinear(DeviceTensor.from(input()), packed).toTensor().toArray());
  });
}

/** For people; ends with a newline. */
export function formatExamination({ node, processor, gpu, advice }: Examination): string {
  const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const lines = [
    `Node.js      ${node}`,
    `processor    ${processor.name}, ${processor.cores} cores, ${gibibytes(processor.memoryBytes)}`,
    `kernels      ${processor.instructionSet} (available: ${processor.available.join(", ")})`,
    `threads      ${processor.threads}`,
  ];
  if (gpu) {
    const memory = `${gibibytes(gpu.memoryBytes)} (${gibibytes(gpu.freeBytes)} free)`;
    const driver = `supports CUDA ${gpu.driverVersion.toFixed(1)}; built with ${gpu.runtimeVersion.toFixed(1)}`;
    lines.push(
      `GPU          ${gpu.name}, compute capability ${gpu.computeCapability.toFixed(1)}, ${gpu.multiprocessors} multiprocessors, ${memory}`,
      `driver       ${gpu.emulated ? "none: this is the emulator of the tests" : driver}`,
      `GPU kernels  ${gpu.kernels}`,
    );
  }
  lines.push("", ...(advice.length ? advice : ["Everything is as it should be."]));
  return `${lines.join("\n")}\n`;
}
