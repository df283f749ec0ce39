/** Running calibration speech through a model and compressing its layers in view of what they were given. */
import { z } from "zod";
import { compressionError } from "../oneshot/output_error.js";
import { InputMoments, type LayerInputs } from "../oneshot/input_moments.js";
import { RandomStream } from "../ops/random_stream.js";
import { fakeQuantize } from "../quant/fake_quantize.js";
import { packWeight, unpackWeight } from "../quant/packed_weight.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainingBatch } from "../train/trainable_model.js";
import { changedLayer, floatSpec, type LayerState } from "./compression_state.js";
import type { CalibrationSetup } from "./modifier.js";

/** The key `calibration` of modifiers that look at speech. */
export const calibrationSchema = z.strictObject({
  utterances: z.number().int().positive().default(256),
  seed: z.number().int().nonnegative().default(1),
  /** Each block is given what the compressed blocks before it put out; otherwise what the float model does. */
  sequential: z.boolean().default(true),
});

export type CalibrationChoice = z.infer<typeof calibrationSchema>;

/** Memory that sums of moments may take when blocks need not be compressed one after another. */
const momentBytes = 256 * 2 ** 20;

/** What a modifier makes of a layer, from its weights, its spec to be and its inputs. */
export type LayerCompression = (layer: LayerState, inputs: LayerInputs, name: string) => Partial<LayerState>;

/**
 * Compresses the layers of a modifier, those of one block after those of another: a pass over the speech for each block, so
 * that the moments of one block are in memory at a time.
 * @throws UsmLiteError INVALID_ARGUMENT for a layer whose inputs calibration does not see
 */
export async function compressWithSpeech(setup: CalibrationSetup, choice: CalibrationChoice, compress: LayerCompression): Promise<void> {
  const { state, specs, onStatus } = setup;
  const batches = await setup.calibrationBatches(choice);
  const started = performance.now();
  const groups = choice.sequential ? layersByBlock(setup.layers) : layersByMemory(setup);
  const later: { name: string; change: Partial<LayerState> }[] = [];
  const waiting = new Set(setup.layers);
  let done = 0;
  for (const group of groups) {
    using inputs = observeInputs(setup, group, batches, waiting);
    for (const name of group) {
      const seconds = performance.now();
      const change = tidy(() => {
        const layer = changedLayer(state.layer(name), { spec: specs.get(name) ?? floatSpec });
        const result = { spec: layer.spec, ...compress(layer, inputs.of(name), name) };
        const errors = compressionError(layer.weight, effectiveWeight(changedLayer(layer, result)), inputs.of(name));
        setup.record({
          layer: name,
          spec: result.spec.text,
          weightError: errors.weight,
          outputError: errors.output,
          seconds: (performance.now() - seconds) / 1000,
        });
        return result;
      });
      if (choice.sequential) {
        state.update(name, change);
        waiting.delete(name);
      } else {
        later.push({ name, change });
      }
      done++;
    }
    if (choice.sequential) setup.model.weightsChanged?.();
    onStatus(`${done} of ${setup.layers.length} layers after ${((performance.now() - started) / 1000).toFixed(0)} s`);
    await new Promise(setImmediate);
  }
  for (const { name, change } of later) state.update(name, change);
}

/** The moments of the inputs of `layers` over all batches, as {@link forwardSpeech} runs them. */
export function observeInputs(
  setup: Pick<CalibrationSetup, "model" | "state">,
  layers: readonly string[],
  batches: readonly TrainingBatch[],
  waiting: ReadonlySet<string>,
): InputMoments {
  const inputs = new InputMoments(layers);
  forwardSpeech(setup, batches, waiting, inputs.observe);
  return inputs;
}

/**
 * Runs all batches through the model and tells `observeInput` what each linear layer multiplies. Layers compute with their
 * compressed weights, as far as they have been compressed; those `waiting` for it with what they have, pruned where there is a mask.
 */
export function forwardSpeech(
  { model, state }: Pick<CalibrationSetup, "model" | "state">,
  batches: readonly TrainingBatch[],
  waiting: ReadonlySet<string>,
  observeInput: (name: string, x: Tensor) => void,
): void {
  tidy(() => {
    const effective = new Map(
      [...state.plan.keys()].map((name) => {
        const layer = state.layer(name);
        return [name, waiting.has(name) ? prunedWeight(layer) : effectiveWeight(layer)];
      }),
    );
    for (const batch of batches) {
      tidy(() =>
        model.loss(batch, {
          training: false,
          random: new RandomStream(0),
          step: 0,
          observeInput,
          transformWeight: (name, weight) => effective.get(name) ?? weight,
        }),
      );
    }
  });
}

const prunedWeight = ({ weight, mask }: LayerState): Tensor => (mask ? fakeQuantize(weight, "float32", { mask }) : weight);

/** The weight that is multiplied by when `layer` has been packed. */
export function effectiveWeight({ weight, spec, mask, scale, zeroPoint }: LayerState): Tensor {
  if (spec.text === "float32") return weight;
  return unpackWeight(
    packWeight(weight, spec.text, spec.sparsity && mask, { ...(scale ? { scale } : {}), ...(zeroPoint ? { zeroPoint } : {}) }),
  ).weight;
}

/** "encoder.layers.3.self_attn.q_proj.weight" is of the block "encoder.layers.3"; a layer outside of blocks is one of its own. */
export const blockOf = (name: string): string => /^.*?\.\d+(?=\.)/.exec(name)?.[0] ?? name;

function layersByBlock(layers: readonly string[]): readonly (readonly string[])[] {
  const blocks = new Map<string, string[]>();
  for (const name of layers) blocks.set(blockOf(name), [...(blocks.get(blockOf(name)) ?? []), name]);
  return [...blocks.values()];
}

function layersByMemory({ layers, state }: CalibrationSetup): readonly (readonly string[])[] {
  const groups: string[][] = [];
  let room = 0;
  for (const name of layers) {
    const { weight } = state.layer(name);
    const bytes = 4 * (weight.size / weight.dim(0)) ** 2;
    if (groups.length === 0 || bytes > room) {
      groups.push([]);
      room = momentBytes;
    }
    groups.at(-1)?.push(name);
    room -= bytes;
  }
  return groups;
}
