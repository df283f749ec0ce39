import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import {
  ActivationNorms,
  applyMask,
  groupScales,
  magnitudeMask,
  packedLinear,
  PackedMatrix,
  packWeight,
  parseWeightSpec,
  prune,
  Tape,
  Tensor,
  tidy,
  Trainer,
  unstructuredMask,
  warmupConstant,
  WeightPruning,
  WeightQuantization,
  type PruneOptions,
  type PruningPattern,
  type TrainingModifier,
  type WeightPruningOptions,
} from "../lib/index.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { randomTensor } from "./gradient.js";
import { SmallBatches, SmallCtcModel } from "./small_ctc_model.js";

const folders: string[] = [];
const folder = (): string => {
  folders.push(mkdtempSync(join(tmpdir(), "usm-lite-pruning-")));
  return folders.at(-1) as string;
};
test.after.always(() => folders.forEach((path) => rmSync(path, { recursive: true, force: true })));

test("pruned weights get the gradient that was chosen", (t) => {
  const weight = Tensor.from([4, -1, 3, 2, -5, 6, 0.5, 0.25], [2, 4]);
  const mask = magnitudeMask(weight, 2, 4);
  const upstream = Tensor.from([1, 2, 3, 4, 5, 6, 7, 8], [2, 4]);
  const run = (options: PruneOptions): { output: number[]; gradient: number[] } => {
    weight.requiresGrad = true;
    using tape = new Tape();
    const output = tape.record(() => prune(weight, mask, options));
    tape.backward(output, upstream.clone());
    return { output: [...output.toArray()], gradient: [...(tape.gradientOf(weight) as Tensor).toArray()] };
  };
  t.deepEqual(run({}), { output: [4, 0, 3, 0, -5, 6, 0, 0], gradient: [1, 0, 3, 0, 5, 6, 0, 0] });
  t.deepEqual(run({ straightThrough: true }), { output: [4, 0, 3, 0, -5, 6, 0, 0], gradient: [1, 2, 3, 4, 5, 6, 7, 8] });
  t.deepEqual(run({ straightThrough: true, decay: 0.5 }).gradient, [1, 1.5, 3, 5, 5, 6, 7.25, 8.125]);
  t.deepEqual(run({ remainder: 0.5 }), { output: [4, -0.5, 3, 1, -5, 6, 0.25, 0.125], gradient: [1, 1, 3, 2, 5, 6, 3.5, 4] });
  t.throws(() => applyMask(weight, Tensor.zeros([4, 2], "uint8")), { code: "INVALID_ARGUMENT", message: /shape of x/ });
  t.throws(() => applyMask(weight, Tensor.zeros([2, 4])), { code: "INVALID_ARGUMENT" });
});

test("an unstructured mask prunes the least weights, of equal ones the later", (t) => {
  const mask = (values: number[], share: number): number[] => [...unstructuredMask(Tensor.from(values), share).toArray()];
  t.deepEqual(mask([3, -1, 2, -4], 0.5), [1, 0, 0, 1]);
  t.deepEqual(mask([1, 1, 1, 1], 0.5), [1, 1, 0, 0]);
  t.deepEqual(mask([1, 2], 0), [1, 1]);
  t.is(
    mask([...randomTensor([1000], 1).toArray()], 0.9).reduce((a, b) => a + b),
    100,
  );
  t.throws(() => mask([1], 1), { code: "INVALID_ARGUMENT", message: /share is 1/ });
});

test("Wanda keeps weights by magnitude times the norm of their input", (t) => {
  const norms = new ActivationNorms(new Map([["w", 4]]));
  const weight = Tensor.from([1, 2, 3, 4, 4, 3, 2, 1], [2, 4]);
  t.throws(() => norms.score("w", weight), { code: "INVALID_ARGUMENT", message: /no inputs of "w" were observed/ });
  norms.observe("other", Tensor.from([1], [1, 1]));
  norms.observe("w", Tensor.from([6, 0, 1, 0, 0, 3, 0, 1], [2, 4]));
  norms.observe("w", Tensor.from([8, 4, 0, 0], [1, 4]));
  t.deepEqual([...norms.score("w", weight).toArray()], [10, 10, 3, 4, 40, 15, 2, 1]);
  t.throws(() => norms.observe("w", Tensor.from([1, 2], [1, 2])), { code: "INVALID_ARGUMENT", message: /has 4 inputs but was given 2/ });
  norms.dispose();
});

/** Share of zeros that the forward pass sees of "input.weight" in each step, while the weights change. */
function zeros(options: WeightPruningOptions, steps: number, pattern: PruningPattern = { kept: 1, of: 4 }): number[] {
  const model = new SmallCtcModel();
  const pruning = new WeightPruning(model, new Map([["input.weight", pattern]]), options);
  const weight = model.parameters().get("input.weight") as Tensor;
  return Array.from({ length: steps }, (_, step) => {
    pruning.beforeStep(step);
    const values = tidy(() => pruning.transformWeight("input.weight", weight).toArray());
    return values.filter((x) => x === 0).length / values.length;
  });
}

test("sparsity grows from shot to shot, or pruned weights fade", (t) => {
  const fewShot = { kind: "few-shot", start: 1, shots: 3, interval: 2 } as const;
  t.deepEqual(zeros({ schedule: fewShot, gradual: true }, 7), [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]);
  t.deepEqual(zeros({ schedule: fewShot }, 3), [0, 0.75, 0.75]);
  t.deepEqual(zeros({ schedule: fewShot, gradual: true }, 7, { share: 0.75 }), [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]);
  t.deepEqual(zeros({ schedule: { kind: "one-shot", step: 1 }, fadeSteps: 2 }, 5), [0, 0, 0.75, 0.75, 0.75]);
  // What an earlier stage pruned stays pruned until the schedule begins.
  const earlier = (): Map<string, Tensor> =>
    new Map([["input.weight", magnitudeMask(new SmallCtcModel().parameters().get("input.weight") as Tensor, 2, 4)]]);
  t.deepEqual(zeros({ schedule: { kind: "one-shot", step: 1 }, fadeSteps: 2, masks: earlier() }, 1), [0.5]);
  t.deepEqual(zeros({ schedule: { kind: "one-shot", step: 3 }, fadeSteps: 1, masks: earlier() }, 4), [0.5, 0.5, 0.5, 0.75]);
  const model = new SmallCtcModel();
  const fading = new WeightPruning(model, new Map([["input.weight", { kept: 1, of: 4 }]]), { fadeSteps: 4 });
  fading.beforeStep(0);
  t.false(fading.masks.has("input.weight"), "a mask is in force once nothing is left of the pruned weights");
  fading.beforeStep(3);
  t.true(fading.masks.has("input.weight"));
});

test("frozen parameters stay, learning rates differ, and no modifier sees what it must not", async (t) => {
  const model = new SmallCtcModel();
  const before = new Map([...model.parameters()].map(([name, tensor]) => [name, [...tensor.toArray()]]));
  const settings: TrainingModifier = {
    settingsOf: (name) => (name === "input.weight" ? { frozen: true } : name === "output.bias" ? { learningRateScale: 1e-9 } : undefined),
  };
  const seen: string[] = [];
  const loss: TrainingModifier = {
    loss: (_, context, next) => (seen.push("outer"), next({ ...context, transformWeight: (_name, weight) => weight })),
    afterStep: (step) => seen.push(`after ${step}`),
  };
  const inner: TrainingModifier = { loss: (_, context, next) => (seen.push("inner"), next(context)) };
  const schedule = warmupConstant({ peak: 0.02, warmupSteps: 1 });
  await new Trainer(model, new SmallBatches(), { folder: folder(), totalSteps: 2, schedule, modifiers: [settings, loss, inner] }).run();
  t.deepEqual(seen, ["outer", "inner", "after 0", "outer", "inner", "after 1"]);
  const now = new Map([...model.parameters()].map(([name, tensor]) => [name, [...tensor.toArray()]]));
  t.deepEqual(now.get("input.weight"), before.get("input.weight"));
  t.notDeepEqual(now.get("output.weight"), before.get("output.weight"));
  t.true((now.get("output.bias") as number[]).every((x) => Math.abs(x) < 1e-8));
});

test("evaluation sees the weights that are packed, without noise", (t) => {
  const model = new SmallCtcModel();
  const weight = model.parameters().get("input.weight") as Tensor;
  const quantization = new WeightQuantization(model, new Map([["input.weight", parseWeightSpec("int4")]]), { rounding: "noise" });
  quantization.beforeStep(0, new RandomStream(1));
  const levels = (purpose: "training" | "evaluation"): number =>
    new Set(
      quantization
        .transformWeight("input.weight", weight, purpose)
        .toArray()
        .subarray(0, 8)
        .map((x) => Math.round(1e4 * x)),
    ).size;
  const { scale } = quantization.finish().get("input.weight") ?? {};
  const row = quantization.transformWeight("input.weight", weight, "evaluation").toArray().subarray(0, 8);
  t.true(row.every((x) => Math.abs(x / (scale?.toArray()[0] as number) - Math.round(x / (scale?.toArray()[0] as number))) < 1e-5));
  t.is(levels("training"), 8);
});

test("an averaged scale follows what its rule gives, as a constant", (t) => {
  const model = new SmallCtcModel();
  const weight = model.parameters().get("input.weight") as Tensor;
  const quantization = new WeightQuantization(model, new Map([["input.weight", parseWeightSpec("int4")]]), { scaleAverage: 0.75 });
  const first = groupScales(weight, "int4").scale.toArray();
  const scaleAfter = (step: number): Float32Array => {
    quantization.beforeStep(step, new RandomStream(1));
    return quantization.state().get("quantization_scale.input.weight")?.toArray() as Float32Array;
  };
  t.deepEqual(scaleAfter(0), first);
  weight.write(weight.toArray().map((x) => 3 * x));
  scaleAfter(1).forEach((scale, row) => t.true(Math.abs(scale - 1.5 * (first[row] as number)) < 1e-6)); // 0.75 + 0.25 * 3
  scaleAfter(2).forEach((scale, row) => t.true(Math.abs(scale - 1.875 * (first[row] as number)) < 1e-6));
  const upstream = randomTensor(weight.shape, 5);
  weight.requiresGrad = true;
  using tape = new Tape();
  tape.backward(
    tape.record(() => quantization.transformWeight("input.weight", weight)),
    upstream.clone(),
  );
  t.deepEqual(tape.gradientOf(weight)?.toArray(), upstream.toArray());
});

test("formats without zero multiply whole numbers under every mask of gradual pruning, as packed with that mask", (t) => {
  const weight = randomTensor([6, 64], 11);
  const x = randomTensor([5, 64], 12);
  const model = { parameters: () => new Map([["w", weight]]), linearWeights: () => ["w"] } as never;
  for (const format of ["midrise2/g32", "uint4"]) {
    const schedule = { kind: "few-shot", start: 0, shots: 4, interval: 1 } as const;
    const pruning = new WeightPruning(model, new Map([["w", { kept: 1, of: 8 }]]), { schedule, gradual: true });
    const quantization = new WeightQuantization(model, new Map([["w", parseWeightSpec(`${format}+1:8`)]]), {
      masks: pruning.masks,
      activations: "int8",
    });
    for (const [step, pattern] of ["6:8", "5:8", "3:8", "1:8"].entries()) {
      pruning.beforeStep(step);
      quantization.beforeStep(step, new RandomStream(1));
      const trained = quantization.packedWeight("w", quantization.transformWeight("w", pruning.transformWeight("w", weight)));
      using served = PackedMatrix.from(packWeight(weight, `${format}+${pattern}`, pruning.masks.get("w")));
      t.deepEqual(packedLinear(x, trained as PackedMatrix).toArray(), packedLinear(x, served).toArray(), `${format} ${pattern}`);
      quantization.afterStep();
    }
    // Of an earlier stage: of 16, not of 8.
    pruning.masks.set("w", magnitudeMask(weight, 2, 16));
    t.is(quantization.packedWeight("w", quantization.transformWeight("w", weight)), undefined);
    quantization.dispose();
    pruning.dispose();
  }
});

test("misuse is a coded error", (t) => {
  const model = new SmallCtcModel();
  const pruning = (options: WeightPruningOptions) => () =>
    new WeightPruning(model, new Map([["input.weight", { kept: 2, of: 4 }]]), options);
  const bad = (body: () => unknown, message: RegExp, code = "BAD_RECIPE"): unknown => t.throws(body, { code, message });
  bad(pruning({ gradual: true }), /needs the schedule few-shot/);
  bad(pruning({ score: "wanda" }), /start must be at least 1/);
  bad(
    pruning({ schedule: { kind: "few-shot", start: 0, shots: 3, interval: 5 }, gradual: true, totalSteps: 10 }),
    /last shot must be within the 10 steps/,
  );
  bad(pruning({ fadeSteps: 11, totalSteps: 10 }), /start and fadeSteps must be within the 10 steps/);
  const specs = new Map([["input.weight", parseWeightSpec("int4")]]);
  for (const options of [{ straightThrough: true }, { decay: 0.5 }, { fadeSteps: 2 }]) {
    bad(pruning({ score: "learned", ...options }), /learned scores take no straightThrough, decay or fadeSteps/);
  }
  bad(() => new WeightQuantization(model, specs, { learned: true, scaleAverage: 0.5 }), /learned or averaged/, "INVALID_ARGUMENT");
  bad(() => new WeightQuantization(model, specs, { scaleAverage: 1 }), /below 1/, "INVALID_ARGUMENT");
  bad(() => new WeightQuantization(model, specs, { rule: { statistic: "threshold" } }), /threshold is for ternary/, "INVALID_ARGUMENT");
});
