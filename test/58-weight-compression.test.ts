import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import {
  packWeight,
  parseWeightSpec,
  Tensor,
  tidy,
  Trainer,
  unpackWeight,
  warmupConstant,
  WeightPruning,
  WeightQuantization,
  type MaskSchedule,
  type TrainerOptions,
  type TrainingModifier,
} from "../lib/index.js";
import { SmallBatches, SmallCtcModel } from "./small_ctc_model.js";

const folders: string[] = [];
test.after.always(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

function options(totalSteps: number, modifiers: readonly TrainingModifier[]): TrainerOptions {
  const folder = mkdtempSync(join(tmpdir(), "usm-lite-compression-"));
  folders.push(folder);
  return { folder, totalSteps, schedule: warmupConstant({ peak: 0.02, warmupSteps: 5 }), modifiers };
}

/** Prunes and quantizes every linear weight as `text` says, as far as it says so. */
class Compression {
  readonly pruning: WeightPruning | undefined;
  readonly modifiers: readonly TrainingModifier[];

  constructor(model: SmallCtcModel, text: string, schedule: MaskSchedule) {
    const spec = parseWeightSpec(text);
    const { sparsity } = spec;
    const names = model.linearWeights();
    this.pruning = sparsity && new WeightPruning(model, new Map(names.map((name) => [name, sparsity])), { schedule });
    const masks = this.pruning?.masks ?? new Map<string, Tensor>();
    const quantization =
      spec.format === "float32" ? [] : [new WeightQuantization(model, new Map(names.map((name) => [name, spec])), { masks })];
    this.modifiers = [...(this.pruning ? [this.pruning] : []), ...quantization];
  }

  readonly transform = (name: string, weight: Tensor): Tensor =>
    this.modifiers.reduce((made, modifier) => modifier.transformWeight?.(name, made, "evaluation") ?? made, weight);

  mask(name: string): Tensor | undefined {
    return this.pruning?.finish().get(name)?.mask;
  }
}

test.serial("a model learns with pruned and quantized weights, and packs to what it was trained as", async (t) => {
  for (const [spec, limit] of [
    ["int4+2:4", 0.5],
    ["int8", 0.3],
    ["float32+2:4", 0.4],
  ] as const) {
    const model = new SmallCtcModel(32);
    const compression = new Compression(model, spec, { kind: "few-shot", shots: 3, interval: 10, start: 0 });
    const losses: number[] = [];
    await new Trainer(model, new SmallBatches(), { ...options(200, compression.modifiers), onStep: ({ loss }) => losses.push(loss) }).run();
    t.true((losses[199] as number) < limit, `${spec}: ${losses[0]} to ${losses[199]}`);
    for (const name of model.linearWeights()) {
      tidy(() => {
        const weight = model.parameters().get(name) as Tensor;
        const trained = compression.transform(name, weight).toArray();
        const packed = unpackWeight(packWeight(weight, spec, compression.mask(name))).weight.toArray();
        t.deepEqual(trained, packed);
      });
    }
  }
});

test.serial("masks follow their schedule", (t) => {
  const zeros = (schedule: MaskSchedule, steps: number): number[] => {
    const model = new SmallCtcModel();
    const compression = new Compression(model, "float32+1:4", schedule);
    const weight = model.parameters().get("input.weight") as Tensor;
    const values = weight.toArray();
    return Array.from({ length: steps }, (_, step) => {
      compression.pruning?.beforeStep(step);
      const effective = tidy(() => compression.transform("input.weight", weight).toArray());
      weight.write(weight.toArray().map((_, i) => values[(i + step + 1) % values.length] as number)); // other weights win
      return effective.filter((x) => x === 0).length;
    });
  };
  const pruned = (16 * 8 * 3) / 4;
  t.deepEqual(zeros({ kind: "one-shot", step: 2 }, 4), [0, 0, pruned, pruned]);
  t.deepEqual(zeros({ kind: "few-shot", start: 1, shots: 2, interval: 2 }, 5), [0, pruned, pruned, pruned, pruned]);
  t.deepEqual(zeros({ kind: "every-step", start: 0 }, 2), [pruned, pruned]);
});

test.serial("a run continues with the masks of its checkpoint", async (t) => {
  const run = async (model: SmallCtcModel, from: string | undefined, steps: number) => {
    const compression = new Compression(model, "int4+2:4", { kind: "one-shot", step: 1 });
    const trainer = new Trainer(model, new SmallBatches(), options(steps, compression.modifiers));
    if (from) trainer.resume(from);
    const { checkpoint } = await trainer.run();
    return {
      checkpoint,
      bits: [...model.parameters().values(), ...(compression.pruning?.state().values() ?? [])].map((x) => [...x.toArray()]),
    };
  };
  const whole = await run(new SmallCtcModel(), undefined, 6);
  const half = await run(new SmallCtcModel(), undefined, 3);
  const rest = await run(new SmallCtcModel(16, 9), half.checkpoint, 6);
  t.deepEqual(rest.bits, whole.bits);
});

test.serial("a run that was over when it is continued is coded by its masks as well", async (t) => {
  const begin = (model: SmallCtcModel) => {
    const { modifiers } = new Compression(model, "ternary+2:4", { kind: "one-shot", step: 1 }); // scales are means of what is kept
    const scales = () =>
      modifiers.flatMap((modifier) => [...(modifier.finish?.() ?? [])].map(([name, { scale }]) => [name, scale && [...scale.toArray()]]));
    return { trainer: new Trainer(model, new SmallBatches(), options(3, modifiers)), scales };
  };
  const whole = begin(new SmallCtcModel());
  const { checkpoint } = await whole.trainer.run();
  const continued = begin(new SmallCtcModel(16, 9));
  continued.trainer.resume(checkpoint);
  t.deepEqual(continued.scales(), whole.scales());
});

test("misuse is a coded error", (t) => {
  const model = new SmallCtcModel();
  const spec = parseWeightSpec("int4");
  const sparsity = { kept: 2, of: 4 };
  t.throws(() => new WeightQuantization(model, new Map([["input.bias", spec]])), {
    code: "INVALID_ARGUMENT",
    message: /"input.bias" is no linear weight/,
  });
  t.throws(() => new WeightPruning(model, new Map([["nothing", sparsity]])), { code: "INVALID_ARGUMENT" });
  t.throws(() => new WeightPruning(model, new Map(), { schedule: { kind: "one-shot", step: -1 } }), { code: "INVALID_ARGUMENT" });
});
