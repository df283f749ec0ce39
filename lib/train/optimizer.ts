/** AdamW over all parameters at once, and the global gradient norm. */
import { zerosLike } from "../device/device_parameter.js";
import { gpuAddon } from "../device/gpu.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { keep } from "../tensor/scope.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";

interface OptimizerBindings {
  adamw(
    parameters: TensorHandle[],
    gradients: TensorHandle[],
    firstMoments: TensorHandle[],
    secondMoments: TensorHandle[],
    learningRates: Float64Array,
    weightDecays: Float64Array,
    beta1: number,
    beta2: number,
    epsilon: number,
    firstCorrection: number,
    secondCorrection: number,
    gradientScale: number,
  ): void;
  sumOfSquares(tensors: TensorHandle[]): number;
}

interface DeviceOptimizerBindings {
  deviceAdamW: OptimizerBindings["adamw"];
  deviceSumOfSquares: OptimizerBindings["sumOfSquares"];
}

const native = addon as OptimizerBindings;

/** What computes where parameters are. */
function bindingsFor(device: Tensor["device"]): OptimizerBindings {
  if (device === "cpu") return native;
  const { deviceAdamW: adamw, deviceSumOfSquares: sumOfSquares } = gpuAddon<DeviceOptimizerBindings>();
  return { adamw, sumOfSquares };
}

/** How one parameter is trained, where it differs from the rest. */
export interface ParameterSettings {
  /** Multiplies the learning rate; default 1. */
  readonly learningRateScale?: number;
  /** Default: that of the optimizer for matrices, 0 for vectors (biases and norms). */
  readonly weightDecay?: number;
  /** It stays as it is, and no gradient is computed for it. */
  readonly frozen?: boolean;
}

/** Settings of {@link AdamW}; Loshchilov and Hutter 2019 (arXiv 1711.05101). */
export interface AdamWOptions {
  /** Decay of the first and second moments; default [0.9, 0.98]. */
  readonly betas?: readonly [number, number];
  /** Default 1e-8. */
  readonly epsilon?: number;
  /** Decoupled weight decay of tensors with more than one axis; default 0.01. */
  readonly weightDecay?: number;
  /** Settings of one parameter by its name. */
  readonly settingsOf?: (name: string, parameter: Tensor) => ParameterSettings;
}

// The GPU is waited for when the CPU has done its part.
const devices = ["cpu", "cuda"] as const;

interface Slot {
  readonly name: string;
  readonly parameter: Tensor;
  readonly first: Tensor;
  readonly second: Tensor;
  readonly learningRateScale: number;
  readonly weightDecay: number;
}

/**
 * AdamW (Loshchilov and Hutter, ICLR 2019), of parameters on the CPU and, float32, on the GPU, each updated where it is. Its state is ordinary
 * tensors, named after the parameters, so that checkpoints restore it to the bit.
 *
 * @example
 * tape.backward(loss);
 * optimizer.step((parameter) => tape.gradientOf(parameter), learningRate, { maximumNorm: 1 });
 */
export class AdamW {
  private readonly slots: Slot[] = [];
  private readonly beta1: number;
  private readonly beta2: number;
  private readonly epsilon: number;
  /** Steps taken, for bias correction. */
  steps = 0;

  constructor(parameters: ReadonlyMap<string, Tensor>, options: AdamWOptions = {}) {
    [this.beta1, this.beta2] = options.betas ?? [0.9, 0.98];
    this.epsilon = options.epsilon ?? 1e-8;
    for (const beta of [this.beta1, this.beta2]) {
      if (!(beta >= 0 && beta < 1)) throw new UsmLiteError("INVALID_ARGUMENT", `AdamW: beta is ${beta}; it must be in [0, 1)`);
    }
    for (const [name, parameter] of parameters) {
      const settings = options.settingsOf?.(name, parameter) ?? {};
      if (settings.frozen) continue;
      this.slots.push({
        name,
        parameter,
        first: keep(zerosLike(parameter)),
        second: keep(zerosLike(parameter)),
        learningRateScale: settings.learningRateScale ?? 1,
        weightDecay: settings.weightDecay ?? (parameter.shape.length > 1 ? (options.weightDecay ?? 0.01) : 0),
      });
    }
  }

  /**
   * Updates every parameter that has a gradient; the others (layers dropped in this step) and their state stay.
   * @param options.maximumNorm gradients are scaled down to this global norm when theirs is larger
   * @param options.gradientScale multiplies all gradients first (1 / number of accumulated batches)
   * @returns the global gradient norm after `gradientScale` and before clipping; when it is not finite nothing changes
   */
  step(
    gradientOf: (parameter: Tensor) => Tensor | undefined,
    learningRate: number,
    options: { maximumNorm?: number; gradientScale?: number } = {},
  ): number {
    const { maximumNorm = Infinity, gradientScale = 1 } = options;
    const updates = devices.flatMap((device) => {
      const slots: Slot[] = [];
      const gradients: TensorHandle[] = [];
      for (const slot of this.slots) {
        const gradient = slot.parameter.device === device ? gradientOf(slot.parameter) : undefined;
        if (!gradient) continue;
        slots.push(slot);
        gradients.push(gradient.handle);
      }
      return slots.length > 0 ? [{ computing: bindingsFor(device), slots, gradients }] : [];
    });
    const square = updates.reduce((sum, { computing, gradients }) => sum + computing.sumOfSquares(gradients), 0);
    const norm = gradientScale * Math.sqrt(square);
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    for (const { computing, slots, gradients } of updates) {
      computing.adamw(
        slots.map((slot) => slot.parameter.handle),
        gradients,
        slots.map((slot) => slot.first.handle),
        slots.map((slot) => slot.second.handle),
        Float64Array.from(slots, (slot) => learningRate * slot.learningRateScale),
        Float64Array.from(slots, (slot) => slot.weightDecay),
        this.beta1,
        this.beta2,
        this.epsilon,
        1 - this.beta1 ** this.steps,
        1 - this.beta2 ** this.steps,
        gradientScale * (norm > maximumNorm ? maximumNorm / norm : 1),
      );
    }
    return norm;
  }

  /** The moments, as `first_moment.NAME` and `second_moment.NAME`; {@link AdamW.steps} is saved apart. */
  state(): Map<string, Tensor> {
    return new Map(
      this.slots.flatMap(({ name, first, second }): [string, Tensor][] => [
        [`first_moment.${name}`, first],
        [`second_moment.${name}`, second],
      ]),
    );
  }

  dispose(): void {
    for (const { first, second } of this.slots) {
      first.dispose();
      second.dispose();
    }
  }
}

/**
 * Euclidean norm over all elements of all tensors.
 *
 * @example
 * globalNorm([Tensor.from([3]), Tensor.from([4])]); // 5
 */
export function globalNorm(tensors: readonly Tensor[]): number {
  return Math.sqrt(native.sumOfSquares(tensors.map((tensor) => tensor.handle)));
}
