/** The GPU of this process: whether there is one, what it is, its memory. */
import { UsmLiteError, type UsmLiteErrorCode } from "../errors.js";
import { addon } from "../native/addon.js";
import type { MemoryStatistics } from "../native/runtime.js";
import type { PinnedBuffer } from "./pinned_buffer.js";

/** The GPU that {@link gpuInformation} found. */
export interface GpuInformation {
  readonly name: string;
  /** 9.0 for Hopper. */
  readonly computeCapability: number;
  readonly multiprocessors: number;
  readonly memoryBytes: number;
  /** Of the second-level cache. */
  readonly cacheBytes: number;
  /** CUDA version that the driver supports, 13.0 for example; 0 for the emulator. */
  readonly driverVersion: number;
  /** CUDA version of the compiler that built this package; 0 for the emulator. */
  readonly runtimeVersion: number;
  /** Whether it is the emulator of the tests. */
  readonly emulated: boolean;
}

/** What went between this process and the GPU since it began, by all its threads. */
export interface HostTraffic {
  readonly copiesToGpu: number;
  readonly bytesToGpu: number;
  readonly copiesToHost: number;
  readonly bytesToHost: number;
  /** How often the host waited for the GPU; copies to the host of which no {@link PinnedBuffer} takes the values do. */
  readonly waits: number;
}

interface GpuBindings {
  gpuStatus(): GpuInformation | { code: UsmLiteErrorCode; message: string };
  gpuFreeMemory(): number;
  gpuMemoryStatistics(): MemoryStatistics;
  gpuHostTraffic(): HostTraffic;
  gpuResetPeakMemory(): void;
  gpuTrimMemory(): void;
}

/**
 * The functions that a build with GPU kernels has.
 * @throws UsmLiteError NO_GPU when this build has none
 */
export function gpuAddon<Bindings>(): Bindings {
  if (typeof (addon as Partial<GpuBindings>).gpuStatus !== "function") {
    throw new UsmLiteError(
      "NO_GPU",
      "this build has no GPU kernels: when it was made nvcc was not found, or USMLITE_CUDA=OFF left them out; " +
        "install CUDA 13 (or 12.4 and later), put nvcc in PATH, unset USMLITE_CUDA and reinstall, or compute on the CPU",
    );
  }
  return addon as Bindings;
}

/**
 * What the GPU is that everything on a GPU uses: the first that the driver shows (`CUDA_VISIBLE_DEVICES` chooses).
 * @throws UsmLiteError NO_GPU when this build has no kernels, no driver is installed, or no GPU from compute capability
 * 8.0 on is there; DRIVER_TOO_OLD
 *
 * @example
 * const { name, computeCapability } = gpuInformation(); // "NVIDIA H100 80GB HBM3", 9
 */
export function gpuInformation(): GpuInformation {
  const status = gpuAddon<GpuBindings>().gpuStatus();
  if ("code" in status) throw new UsmLiteError(status.code, status.message);
  return status;
}

/**
 * Whether {@link gpuInformation} finds a GPU.
 *
 * @example
 * const model = loadModel("packed", { device: hasGpu() ? "cuda" : "cpu" });
 */
export function hasGpu(): boolean {
  try {
    gpuInformation();
    return true;
  } catch (error) {
    if (error instanceof UsmLiteError) return false;
    throw error;
  }
}

/**
 * Bytes of the GPU that no process uses.
 * @throws UsmLiteError as {@link gpuInformation}
 *
 * @example
 * const gibibytes = gpuFreeMemory() / 2 ** 30;
 */
export const gpuFreeMemory = (): number => gpuAddon<GpuBindings>().gpuFreeMemory();

/**
 * Bytes of tensors and weights of this process on the GPU.
 * @throws UsmLiteError NO_GPU when this build has no kernels
 *
 * @example
 * const { bytesInUse, peakBytes } = gpuMemoryStatistics();
 */
export const gpuMemoryStatistics = (): MemoryStatistics => gpuAddon<GpuBindings>().gpuMemoryStatistics();

/**
 * Copies between this process and the GPU, and waits for the GPU, to find what holds it up.
 * @throws UsmLiteError NO_GPU when this build has no kernels
 *
 * @example
 * const before = gpuHostTraffic();
 * recognizer.transcribe(samples);
 * const waits = gpuHostTraffic().waits - before.waits;
 */
export const gpuHostTraffic = (): HostTraffic => gpuAddon<GpuBindings>().gpuHostTraffic();

/**
 * Begins the peak of {@link gpuMemoryStatistics} anew from what is in use.
 * @throws UsmLiteError NO_GPU when this build has no kernels
 *
 * @example
 * resetPeakGpuMemory();
 * recognizer.transcribe(samples);
 * const { peakBytes } = gpuMemoryStatistics();
 */
export const resetPeakGpuMemory = (): void => gpuAddon<GpuBindings>().gpuResetPeakMemory();

/**
 * Gives blocks that were kept for reuse back to the driver; waits for the GPU.
 * @throws UsmLiteError NO_GPU when this build has no kernels
 *
 * @example
 * trimGpuMemory(); // other processes may have it
 */
export const trimGpuMemory = (): void => gpuAddon<GpuBindings>().gpuTrimMemory();
