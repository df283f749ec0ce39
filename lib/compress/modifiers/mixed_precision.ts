/** `mixed-precision`: a spec for each layer, so that all together take no more than a budget and the model loses least. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { compressionError, outputEnergy } from "../../oneshot/output_error.js";
import { totalOf, withinBudget, type Candidate } from "../../oneshot/size_budget.js";
import { RandomStream } from "../../ops/random_stream.js";
import { searchScales } from "../../oneshot/scale_search.js";
import { meanSquares, type LayerInputs } from "../../oneshot/input_moments.js";
import { wandaMask } from "../../oneshot/wanda.js";
import { weightMatrix, weightMatrixShape } from "../../quant/weight_matrix.js";
import { packedBytes, type WeightSpec } from "../../quant/weight_spec.js";
import { tidy } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { TrainingBatch } from "../../train/trainable_model.js";
import { blockOf, calibrationSchema, effectiveWeight, observeInputs } from "../calibration.js";
import type { CompressionPlan } from "../compression_plan.js";
import { modifierType, specSchema, type CalibrationSetup } from "../modifier.js";

const keys = {
  /** What layers may become. */
  specs: z.array(specSchema).min(2),
  /** For all layers of this modifier: "12.5%" of their size in float32, or bytes. */
  budget: z.union([
    z.number().int().positive(),
    z.string().regex(/^\d+(\.\d+)?\s*%$/, "a budget is a number of bytes, or a share such as 12.5%"),
  ]),
  /** `output-error`: what the layer's output loses. `loss`: what the model's loss gains, one layer compressed at a time. */
  sensitivity: z.enum(["output-error", "loss"]).default("output-error"),
  calibration: calibrationSchema.omit({ sequential: true }).prefault({ utterances: 64 }),
};

export const mixedPrecision = modifierType("mixed-precision", keys, ({ specs, budget, sensitivity, calibration }) => ({
  specOf: () => specs.reduce((most, spec) => (spec.bits > most.bits ? spec : most)),
  speech: { ...calibration, sequential: true },
  chooseSpecs: async (setup) => {
    const batches = await setup.calibrationBatches(calibration);
    const layers = await candidates(setup, specs, batches, sensitivity);
    const floatBytes = setup.layers.reduce((sum, name) => sum + 4 * setup.state.layer(name).weight.size, 0);
    const bytes = typeof budget === "number" ? budget : Math.floor((parseFloat(budget) / 100) * floatBytes);
    const chosen = withinBudget(layers, bytes);
    setup.onStatus(table(layers, chosen, bytes, floatBytes));
    const bySpec = new Map(specs.map((spec) => [spec.text, spec]));
    return new Map([...chosen].map(([name, { spec }]) => [name, bySpec.get(spec) as WeightSpec])) satisfies CompressionPlan;
  },
}));

async function candidates(
  setup: CalibrationSetup,
  specs: readonly WeightSpec[],
  batches: readonly TrainingBatch[],
  sensitivity: "output-error" | "loss",
): Promise<ReadonlyMap<string, readonly Candidate[]>> {
  const { state } = setup;
  const result = new Map<string, readonly Candidate[]>();
  const before = sensitivity === "loss" ? meanLoss(setup, batches) : 0;
  for (const block of new Set(setup.layers.map(blockOf))) {
    const names = setup.layers.filter((name) => blockOf(name) === block);
    using inputs = observeInputs(setup, names, batches, new Set(setup.layers));
    for (const name of names) {
      const started = performance.now();
      const { weight } = state.layer(name);
      const [rows, columns] = weightMatrixShape(weight.shape);
      const measured = specs.map((spec) =>
        tidy(() => {
          const rounded = roundedWeight(weight, spec, inputs.of(name));
          const errors = compressionError(weight, rounded, inputs.of(name));
          const loss =
            sensitivity === "loss"
              ? meanLoss(setup, batches, { name, weight: rounded }) - before
              : (errors.output * outputEnergy(weightMatrix(weight), inputs.of(name))) / inputs.of(name).frames;
          const { codes, scales, mask } = packedBytes(spec.text, rows, columns);
          setup.record({
            layer: name,
            spec: spec.text,
            weightError: errors.weight,
            outputError: errors.output,
            seconds: (performance.now() - started) / 1000,
          });
          return { spec: spec.text, bytes: codes + scales + mask, loss };
        }),
      );
      result.set(name, measured);
      await new Promise(setImmediate);
    }
  }
  return result;
}

/** Masks by {@link wandaMask} and searched scales: near what a later stage makes of the layer, at a small part of its time. */
function roundedWeight(weight: Tensor, spec: WeightSpec, inputs: LayerInputs): Tensor {
  const mask = spec.sparsity && wandaMask(weight, spec.sparsity, inputs);
  const scales = spec.bits < 32 ? searchScales(weight, spec.text, { mask, importance: meanSquares(inputs) }) : {};
  return effectiveWeight({ weight, spec, ...(mask ? { mask } : {}), ...scales });
}

/** Loss per frame over the batches, with one weight exchanged. */
function meanLoss(
  { model }: CalibrationSetup,
  batches: readonly TrainingBatch[],
  changed?: { readonly name: string; readonly weight: Tensor },
): number {
  const losses = batches.map((batch) =>
    tidy(() => {
      const transformWeight = (name: string, weight: Tensor): Tensor => (name === changed?.name ? changed.weight : weight);
      const [loss] = model.loss(batch, { training: false, random: new RandomStream(0), step: 0, transformWeight }).loss.toArray();
      return loss as number;
    }),
  );
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  if (Number.isFinite(mean)) return mean;
  throw new UsmLiteError("INVALID_ARGUMENT", "the loss of the calibration speech is not finite; use sensitivity: output-error");
}

function table(
  layers: ReadonlyMap<string, readonly Candidate[]>,
  chosen: ReadonlyMap<string, Candidate>,
  budget: number,
  floatBytes: number,
): string {
  const width = Math.max(...[...layers.keys()].map((name) => name.length));
  const lines = [...layers].map(([name, candidates]) => {
    const losses = candidates.map(({ spec, loss }) => `${spec} ${loss.toExponential(2)}`).join(", ");
    return `${name.padEnd(width)}  ${(chosen.get(name)?.spec ?? "").padEnd(10)}  ${losses}`;
  });
  const bytes = totalOf(chosen, "bytes");
  const share = `${((100 * bytes) / floatBytes).toFixed(2)} % of float32`;
  const summary = `${bytes} of ${budget} bytes, ${share}; sum of losses ${totalOf(chosen, "loss").toExponential(3)}`;
  return ["chosen specs, and what each candidate loses:", ...lines, summary].join("\n");
}
