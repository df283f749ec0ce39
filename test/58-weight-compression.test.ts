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
  WeightCompression,
  type MaskSchedule,
  type TrainerOptions,
  type WeightSpec,
} from "../lib/index.js";
import { SmallBatches, SmallCtcModel } from "./small_ctc_model.js";

const folders: string[] = [];
test.after.always(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

function options(totalSteps: number, compression: WeightCompression): TrainerOptions {
  const folder = mkdtempSync(join(tmpdir(), "usm-lite-compression-"));
  folders.push(folder);
  return { folder, totalSteps, schedule: warmupConstant({ peak: 0.02, warmupSteps: 5 }), compression };
}

const planOf = (model: SmallCtcModel, spec: string): Map<string, WeightSpec> =>
  new Map(model.linearWeights().map((name) => [name, parseWeightSpec(spec)]));

test.serial("a model learns with pruned and quantized weights, and packs to what it was trained as", async (t) => {
  for (const [spec, limit] of [["int4+2:4", 0.5], ["int8", 0.3], ["float32+2:4", 0.4]] as const) {
    const model = new SmallCtcModel(32);
    const compression = new WeightCompression(model, planOf(model, spec), { masks: { kind: "few-shot", shots: 3, interval: 10, start: 0 } });
    const losses: number[] = [];
    await new Trainer(model, new SmallBatches(), { ...options(200, compression), onStep: ({ loss }) => losses.push(loss) }).run();
    t.true((losses[199] as number) < limit, `${spec}: ${losses[0]} to ${losses[199]}`);
    for (const name of model.linearWeights()) {
      tidy(() => {
        const weight = model.parameters().get(name) as Tensor;
        const trained = compression.transformWeight(name, weight).toArray();
        const packed = unpackWeight(packWeight(weight, spec, compression.masks().get(name))).weight.toArray();
        t.deepEqual(trained, packed);
      });
    }
  }
});

test.serial("masks follow their schedule", (t) => {
  const zeros = (schedule: MaskSchedule, steps: number): number[] => {
    const model = new SmallCtcModel();
    const compression = new WeightCompression(model, planOf(model, "float32+1:4"), { masks: schedule });
    const weight = model.parameters().get("input.weight") as Tensor;
    const values = weight.toArray();
    return Array.from({ length: steps }, (_, step) => {
      compression.beforeStep(step);
      const effective = tidy(() => compression.transformWeight("input.weight", weight).toArray());
      weight.write(weight.toArray().map((_x, i) => values[(i + step + 1) % values.length] as number)); // other weights win
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
    const compression = new WeightCompression(model, planOf(model, "int4+2:4"), { masks: { kind: "one-shot", step: 1 } });
    const trainer = new Trainer(model, new SmallBatches(), options(steps, compression));
    if (from) trainer.resume(from);
    const { checkpoint } = await trainer.run();
    return { checkpoint, bits: [...model.parameters().values(), ...compression.masks().values()].map((x) => [...x.toArray()]) };
  };
  const whole = await run(new SmallCtcModel(), undefined, 6);
  const half = await run(new SmallCtcModel(), undefined, 3);
  const rest = await run(new SmallCtcModel(16, 9), half.checkpoint, 6);
  t.deepEqual(rest.bits, whole.bits);
});

test("misuse is a coded error", (t) => {
  const model = new SmallCtcModel();
  const spec = parseWeightSpec("int4");
  t.throws(() => new WeightCompression(model, new Map([["input.bias", spec]])), { code: "INVALID_ARGUMENT", message: /"input.bias" is no linear weight/ });
  t.throws(() => new WeightCompression(model, new Map([["nothing", spec]])), { code: "INVALID_ARGUMENT" });
  t.throws(() => new WeightCompression(model, new Map(), { masks: { kind: "one-shot", step: -1 } }), { code: "INVALID_ARGUMENT" });
});
