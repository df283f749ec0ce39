import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import {
  groupScales,
  keep,
  magnitudeMask,
  parseWeightSpec,
  Tensor,
  tidy,
  Trainer,
  warmupConstant,
  WeightPruning,
  WeightQuantization,
  type StepMetrics,
  type TrainingModifier,
  type WeightPruningOptions,
  type WeightQuantizationOptions,
} from "../lib/index.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { SmallBatches, SmallCtcModel } from "./small_ctc_model.js";

const folders: string[] = [];
const folder = (): string => {
  folders.push(mkdtempSync(join(tmpdir(), "usm-lite-pruning-")));
  return folders.at(-1) as string;
};
test.after.always(() => folders.forEach((path) => rmSync(path, { recursive: true, force: true })));

const sparsity = { kept: 2, of: 4 };

interface Run {
  readonly pruning?: WeightPruningOptions;
  readonly quantization?: WeightQuantizationOptions;
  readonly spec?: string;
  readonly steps?: number;
  /** Default: all linear weights. */
  readonly names?: readonly string[];
}

/** A run over a few steps with a checkpoint after each; `from` continues one. */
async function run({ pruning = {}, quantization = {}, spec = "int4+2:4", steps = 6, names }: Run, from?: string) {
  const model = new SmallCtcModel(16, from ? 9 : 1);
  const layers = names ?? model.linearWeights();
  const sparse = new WeightPruning(model, new Map(layers.map((name) => [name, sparsity])), { ...pruning, totalSteps: Math.max(steps, 6) });
  const quantized = new WeightQuantization(model, new Map(layers.map((name) => [name, parseWeightSpec(spec)])), {
    ...quantization,
    masks: sparse.masks,
  });
  // The layers of this model are no Linear: it tells nobody what they multiply.
  const observed: TrainingModifier = {
    loss: (batch, context, next) => (context.observeInput?.("input.weight", batch.features), next(context)),
  };
  const metrics: StepMetrics[] = [];
  const schedule = warmupConstant({ peak: 0.02, warmupSteps: 1 });
  const place = folder();
  const trainer = new Trainer(model, new SmallBatches(), {
    folder: place,
    totalSteps: steps,
    schedule,
    averageDecay: 0.9,
    modifiers: [sparse, observed, quantized],
    checkpoints: { everySteps: 1, keep: steps },
    onStep: (one) => metrics.push(one),
  });
  if (from) trainer.resume(from);
  await trainer.run();
  const tensors = [...trainer.weights(), ...sparse.state(), ...quantized.state(), ...quantized.parameters()];
  const state = new Map(tensors.map(([name, tensor]) => [name, [...tensor.toArray()]]));
  return {
    state,
    metrics,
    checkpoints: readdirSync(join(place, "checkpoints"))
      .sort()
      .map((name) => join(place, "checkpoints", name)),
  };
}

const everyStep = { kind: "every-step", start: 0 } as const;

const killedRuns: Readonly<Record<string, Run>> = {
  "learned scores and scales, gradual": {
    pruning: { schedule: { kind: "few-shot", start: 1, shots: 3, interval: 2 }, score: "learned", gradual: true },
    quantization: { learned: true, rounding: "stochastic" },
    spec: "uint4+2:4",
  },
  "SR-STE, averaged scales, noise": {
    pruning: { schedule: everyStep, straightThrough: true, decay: 2e-4 },
    quantization: { scaleAverage: 0.8, rounding: "noise", start: 1 },
  },
  Wanda: {
    pruning: { schedule: { kind: "one-shot", step: 3 }, score: "wanda" },
    quantization: { rule: { powerOfTwo: true } },
    names: ["input.weight"],
  },
  "fading masks, searched scales": {
    pruning: { schedule: { kind: "one-shot", step: 1 }, fadeSteps: 4 },
    quantization: { rule: { search: { steps: 4, lowest: 0.5 } }, start: 2, scaleDecay: 1e-3 },
  },
};

for (const [name, settings] of Object.entries(killedRuns)) {
  test.serial(`a run that was killed after any step goes on to the same bits: ${name}`, async (t) => {
    const whole = await run(settings);
    t.is(whole.checkpoints.length, 6);
    for (const [index, checkpoint] of whole.checkpoints.slice(0, -1).entries()) {
      const { state } = await run(settings, checkpoint);
      t.deepEqual(state, whole.state, `after ${index + 1}`);
    }
    t.true(whole.metrics.some((step) => "maskChanges" in step));
  });
}

test.serial("learned scores and learned scales learn", async (t) => {
  const start = new SmallCtcModel().parameters().get("input.weight") as Tensor;
  const { state } = await run({ pruning: { score: "learned", schedule: everyStep }, quantization: { learned: true }, steps: 8 });
  t.notDeepEqual(state.get("sparsity_score.input.weight"), [...start.toArray()].map(Math.abs));
  const scales = state.get("quantization_scale.input.weight") as number[];
  t.is(scales.length, 16);
  t.true(scales.every((scale) => scale > 0));
});

test("masks by Wanda see the inputs of the steps before", (t) => {
  const model = new SmallCtcModel();
  const weight = model.parameters().get("input.weight") as Tensor;
  const pruning = new WeightPruning(model, new Map([["input.weight", sparsity]]), {
    score: "wanda",
    schedule: { kind: "one-shot", step: 2 },
  });
  const x = Tensor.from([0, 0, 1, 1, 1, 1, 0, 0], [1, 8]);
  const context = { training: true, random: new RandomStream(1), step: 0 };
  const batch = new SmallBatches().batch(0, 0);
  for (const step of [0, 1]) {
    pruning.beforeStep(step);
    pruning.loss(batch, context, (inner) => {
      inner.observeInput?.("input.weight", x);
      return { loss: x };
    });
  }
  pruning.beforeStep(2);
  const pruned = pruning.transformWeight("input.weight", weight).toArray();
  weight.toArray().forEach((value, i) => t.is(pruned[i], [2, 3, 4, 5].includes(i % 8) ? value : 0));
  t.is(pruning.metrics()["maskChanges"], 0.5);
});

test.serial("a layer that layer drop left out keeps what it was given before; one that was given nothing is scored by magnitude", (t) => {
  const model = new SmallCtcModel();
  const pruning = new WeightPruning(model, new Map(model.linearWeights().map((name) => [name, sparsity])), {
    score: "wanda",
    schedule: { kind: "every-step", start: 1 },
  });
  const batch = new SmallBatches().batch(0, 0);
  const inputs = [0, 0, 1, 1];
  const step = (index: number, given: readonly number[] | undefined): number[] => {
    pruning.beforeStep(index);
    pruning.loss(batch, { training: true, random: new RandomStream(1), step: index }, (inner) => {
      const x = Tensor.from([...(given ?? inputs), ...(given ?? inputs)], [1, 8]);
      if (given) inner.observeInput?.("input.weight", x);
      return { loss: x };
    });
    return [...(pruning.masks.get("input.weight")?.toArray() ?? [])].slice(0, 4);
  };
  step(0, inputs);
  for (let index = 1; index < 12; index++) t.deepEqual(step(index, undefined), [0, 0, 1, 1]);
  const magnitudes = tidy(() => [...magnitudeMask(model.parameters().get("output.weight") as Tensor, 2, 4).toArray()]);
  t.deepEqual([...(pruning.masks.get("output.weight")?.toArray() ?? [])], magnitudes);
  // The eight latest steps with inputs count.
  for (let index = 12; index < 20; index++) t.deepEqual(step(index, [1e-3, 1e-3, 0, 0]), [0, 0, 1, 1]);
  t.deepEqual(step(20, undefined), [1, 1, 0, 0]);
});

test.serial("what modifiers do after a step is in the averages", async (t) => {
  const own = keep(Tensor.from([-1]));
  const trainer = new Trainer(new SmallCtcModel(), new SmallBatches(), {
    folder: folder(),
    totalSteps: 1,
    schedule: warmupConstant({ peak: 0.02, warmupSteps: 1 }),
    averageDecay: 0.9,
    modifiers: [{ parameters: () => new Map([["own", own]]), afterStep: () => own.write(Float32Array.of(3)) }],
  });
  await trainer.run();
  t.true((trainer.weights().get("own")?.toArray()[0] as number) > -1);
  const [average] = trainer.weights().get("own")?.toArray() ?? [];
  own.write(Float32Array.of(-1));
  trainer.adoptAverage();
  t.is(own.toArray()[0], average);
});

test.serial("learned scales move in proportion to their size", async (t) => {
  for (const spec of ["int8", "int6", "nf4"]) {
    const model = new SmallCtcModel();
    const before = tidy(() => [...groupScales(model.parameters().get("input.weight") as Tensor, spec).scale.toArray()]);
    const { state } = await run({ pruning: { schedule: { kind: "one-shot", step: 5 } }, quantization: { learned: true }, spec });
    const after = state.get("quantization_scale.input.weight") as number[];
    t.notDeepEqual(after, before);
    after.forEach((scale, row) => t.true(scale > 0.4 * (before[row] as number) && scale < 2 * (before[row] as number), `${spec} ${row}`));
  }
});
