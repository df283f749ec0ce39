/** The moving average of weights. */
import { overwrite } from "../device/device_parameter.js";
import { gpuAddon } from "../device/gpu.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { keep } from "../tensor/scope.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";

interface AverageBindings {
  updateAverage(averages: TensorHandle[], parameters: TensorHandle[], decay: number): void;
}

interface DeviceAverageBindings {
  deviceUpdateAverage: AverageBindings["updateAverage"];
}

const native = addon as AverageBindings;

/**
 * Exponential moving average of weights (Polyak and Juditsky, 1992), often better than the last weights themselves.
 * The decay begins small, min(decay, (1 + t) / (10 + t)), so that the random start is forgotten soon.
 *
 * @example
 * const average = new WeightAverage(network.parameters(), 0.999);
 * average.update(); // after each step of the optimizer
 * const { wer } = await average.use(() => evaluate(recognizer, heldOut));
 */
export class WeightAverage {
  private readonly averages = new Map<string, Tensor>();
  /** Updates so far; a checkpoint keeps it beside {@link WeightAverage.weights}. */
  updates = 0;

  constructor(
    private readonly parameters: ReadonlyMap<string, Tensor>,
    readonly decay: number,
  ) {
    if (!(decay > 0 && decay < 1)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `the decay of the weight average is ${decay}; it must be between 0 and 1`);
    }
    for (const [name, parameter] of parameters) this.averages.set(name, keep(parameter.clone()));
  }

  /** Call after each optimizer step. */
  update(): void {
    const decay = Math.min(this.decay, (1 + this.updates) / (10 + this.updates));
    this.updates++;
    for (const device of ["cuda", "cpu"] as const) {
      const names = [...this.parameters].flatMap(([name, parameter]) => (parameter.device === device ? [name] : []));
      if (names.length > 0) updateAverages(tensorsOf(this.averages, names), tensorsOf(this.parameters, names), decay);
    }
  }

  /** The averaged weights by parameter name. */
  weights(): ReadonlyMap<string, Tensor> {
    return this.averages;
  }

  /** Runs `body` with the averaged weights in place of the parameters. */
  async use<Result>(body: () => Result | Promise<Result>): Promise<Result> {
    this.exchange();
    try {
      return await body();
    } finally {
      this.exchange();
    }
  }

  dispose(): void {
    for (const average of this.averages.values()) average.dispose();
  }

  private exchange(): void {
    for (const [name, parameter] of this.parameters) {
      const average = this.averages.get(name) as Tensor;
      using values = parameter.clone();
      overwrite(parameter, average);
      overwrite(average, values);
    }
  }
}

/**
 * `average = decay * average + (1 - decay) * value` of each pair, in place.
 * @param averages all on one device, as `values`
 */
export function updateAverages(averages: readonly Tensor[], values: readonly Tensor[], decay: number): void {
  const onGpu = averages[0]?.device === "cuda";
  const update = onGpu ? gpuAddon<DeviceAverageBindings>().deviceUpdateAverage : native.updateAverage;
  const handles = (tensors: readonly Tensor[]): TensorHandle[] => tensors.map(({ handle }) => handle);
  update(handles(averages), handles(values), decay);
}

const tensorsOf = (tensors: ReadonlyMap<string, Tensor>, names: readonly string[]): Tensor[] =>
  names.map((name) => tensors.get(name) as Tensor);
