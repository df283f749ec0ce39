/** Training steps on the GPU beside those of the CPU. */
import type { ExecutionContext } from "ava";
import {
  DeviceTensor,
  fakeQuantize,
  magnitudeMask,
  placeForTraining,
  Tape,
  tidy,
  type Tensor,
  type TrainingBatch,
  type TrainingContext,
} from "../lib/index.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import { featuresOnDevice } from "../lib/device/placement.js";
import type { TrainableNetwork } from "../lib/models/trainable.js";
import { RandomStream } from "../lib/ops/random_stream.js";

/** By name and in the shape of the checkpoint; undefined for parameters that got none. */
export type StoredGradients = ReadonlyMap<string, { readonly values: Float32Array; readonly shape: readonly number[] } | undefined>;

export interface Step {
  readonly loss: number;
  readonly infeasible: number;
  readonly gradients: StoredGradients;
}

/**
 * Loss and gradients of one step.
 * @param fresh a network on the CPU
 * @param batch on the CPU
 * @param quantized which weights are int4+2:4
 */
export function trainingStep(
  fresh: () => TrainableNetwork,
  batch: TrainingBatch,
  device: "cpu" | "cuda",
  quantized: (network: TrainableNetwork) => readonly string[],
): Step {
  return tidy(() => {
    const onCpu = fresh();
    const network = device === "cpu" ? onCpu : placeForTraining(onCpu);
    for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
    const names = new Set(quantized(onCpu));
    const transformWeight = (name: string, weight: Tensor): Tensor =>
      names.has(name) ? fakeQuantize(weight, "int4+2:4", { mask: magnitudeMask(weight, 2, 4) }) : weight;
    const context: TrainingContext = { training: true, random: new RandomStream(3), step: 0, transformWeight };
    using tape = new Tape();
    const { loss, infeasible = 0 } = tape.record(() =>
      network.loss({ ...batch, features: featuresOnDevice(batch.features, device) }, context),
    );
    tape.backward(loss);
    const gradients = new Map(
      [...network.parameters()].map(([name, parameter]) => [name, stored(parameter, tape.gradientOf(parameter))] as const),
    );
    const value = loss.toArray()[0] as number;
    for (const one of new Set([onCpu, network])) one.dispose();
    return { loss: value, infeasible, gradients };
  });
}

/** As the checkpoint has it: a gradient on the GPU lies as its parameter does. */
function stored(parameter: Tensor, gradient: Tensor | undefined): { values: Float32Array; shape: readonly number[] } | undefined {
  if (gradient && parameter instanceof DeviceParameter) parameter.write(gradient.toArray());
  const found = gradient && parameter instanceof DeviceParameter ? parameter.stored() : gradient;
  return found && { values: found.toArray(), shape: found.shape };
}

/** Attention does not change with what is added to all keys: rounding is all there is. */
const keyBias = /(k_proj|linear_k)\.bias$/;

/**
 * Asserts that two steps agree. bfloat16 rounds every activation and every gradient on its way: gradients are compared by direction and length.
 * @param untrained parameters that get no gradients, and no others
 */
export function assertSameStep(t: ExecutionContext, found: Step, expected: Step, untrained = /^$/): void {
  t.true(Math.abs(found.loss / expected.loss - 1) < 1e-2, `loss ${found.loss}, not ${expected.loss}`);
  t.is(found.infeasible, expected.infeasible);
  t.deepEqual([...found.gradients.keys()], [...expected.gradients.keys()]);
  for (const [name, gradient] of expected.gradients) {
    const own = found.gradients.get(name);
    t.is(gradient === undefined, untrained.test(name), name);
    if (!gradient || !own) {
      t.is(own, gradient, name);
      continue;
    }
    t.deepEqual(own.shape, gradient.shape, name);
    const [length, ownLength] = [gradient.values, own.values].map((values) => Math.sqrt(dot(values, values))) as [number, number];
    if (keyBias.test(name)) {
      t.true(Math.max(length, ownLength) < 1e-2, name);
      continue;
    }
    const cosine = dot(gradient.values, own.values) / (length * ownLength);
    t.true(cosine > 0.99 && Math.abs(ownLength / length - 1) < 0.05, `${name}: cosine ${cosine}, lengths ${ownLength} and ${length}`);
  }
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);

/** Values that bfloat16 holds, so that both devices compute with the same. */
export const heldByBfloat16 = (values: Tensor): Tensor => {
  using rounded = DeviceTensor.from(values);
  return rounded.toTensor();
};
