import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  compressModel,
  loadModel,
  ManySizes,
  measureModel,
  parseRecipe,
  tidy,
  Trainer,
  warmupConstant,
  type ManySizesOptions,
  type Tensor,
  type TrainingContext,
} from "../lib/index.js";
import { formatSizeReports } from "../lib/compress/size_report.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { parseWeightSpec } from "../lib/quant/weight_spec.js";
import { freshModel, OneBatch } from "./trainable_models.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("many-sizes");
test.after.always(folder.clean);

const sizes = ["int8", "int4", "int4+2:4", "int2"].map((spec) => ({ name: spec.replace(":", "-"), spec: parseWeightSpec(spec) }));
const options: ManySizesOptions = {
  perStep: 3,
  distillation: 0,
  masks: { kind: "one-shot", step: 0 },
  stopScaleGradient: false,
  blankId: 6,
  totalSteps: 8,
};
const context = (): TrainingContext => ({ training: true, random: new RandomStream(1), step: 0 });

/** Losses of the sizes that `modifier` trains in a step. */
const stepLosses = (network: TrainableNetwork, modifier: ManySizes, random: RandomStream): { mean: number; each: readonly string[] } =>
  tidy(() => {
    modifier.beforeStep(0, random);
    const batch = { ...new OneBatch(network).batch(), plain: true };
    const each: string[] = [];
    const mean = modifier.loss(batch, context(), (inner) => {
      const result = network.loss(batch, inner);
      each.push((result.loss.toArray()[0] as number).toFixed(6));
      return result;
    }).loss;
    return { mean: mean.toArray()[0] as number, each };
  });

test("every step trains the largest, the smallest and others drawn anew", (t) => {
  const network = freshModel("parakeet_ctc");
  const random = new RandomStream(3);
  const all = stepLosses(network, new ManySizes(network, sizes, network.blockWeights(), { ...options, perStep: 9 }), random);
  t.is(all.each.length, 4);
  t.is(new Set(all.each).size, 4);
  t.true(Math.abs(all.mean - all.each.reduce((sum, loss) => sum + Number(loss) / 4, 0)) < 1e-5);
  const modifier = new ManySizes(network, sizes, network.blockWeights(), options);
  const middles = new Set<string | undefined>();
  for (let step = 0; step < 5; step++) {
    const { each } = stepLosses(network, modifier, random);
    t.is(each.length, 3);
    t.deepEqual([each[0], each[2]], [all.each[0], all.each[3]]);
    middles.add(each[1]);
  }
  t.deepEqual([...middles].sort(), all.each.slice(1, 3).sort());
  const single = new ManySizes(network, sizes, network.blockWeights(), { ...options, perStep: 1 });
  t.is(new Set(Array.from({ length: 14 }, () => stepLosses(network, single, random).each.join())).size, 4);
  // The smaller ones also learn from the largest.
  const taught = stepLosses(
    network,
    new ManySizes(network, sizes, network.blockWeights(), { ...options, perStep: 9, distillation: 5 }),
    random,
  );
  t.true(taught.mean > all.mean + 1e-3);
});

test("all sizes learn on shared weights, each with statistics of its own, and a run continues to the same bits", async (t) => {
  const run = async (
    path: string,
    steps: number,
    network = freshModel("lasr_ctc"),
  ): Promise<{ losses: Record<string, number>[]; bits: number[][] }> => {
    const modifier = new ManySizes(network, sizes, network.blockWeights(), { ...options, distillation: 1, blankId: 0 });
    const losses: Record<string, number>[] = [];
    const trainer = new Trainer(network, new OneBatch(network), {
      folder: join(folder.path, path),
      totalSteps: steps,
      schedule: warmupConstant({ peak: 5e-3, warmupSteps: 1 }),
      modifiers: [modifier],
      onStep: (metrics) => losses.push({ ...(metrics as unknown as Record<string, number>) }),
    });
    trainer.resume();
    await trainer.run();
    const bits = [...network.parameters().values(), ...modifier.state().values()].map((tensor: Tensor) => [...tensor.toArray()]);
    const means = [...modifier.state()]
      .filter(([name]) => name.endsWith("layers.0.conv.norm.running_mean"))
      .map(([, tensor]) => tensor.toArray().join());
    t.is(new Set(means).size, 4);
    trainer.dispose();
    return { losses, bits };
  };
  const straight = await run("straight", 6);
  for (const { name } of sizes) {
    const seen = straight.losses.map((line) => line[`loss.${name}`]).filter((loss) => loss !== undefined);
    t.true((seen.at(-1) as number) < 0.9 * (seen[0] as number), `${name}: ${seen.join(" ")}`);
  }
  await run("parts", 3);
  const parts = await run("parts", 6, freshModel("lasr_ctc", 9));
  t.deepEqual(parts.bits, straight.bits);
});

test("a run that ended before its models were written gives the same ones", async (t) => {
  const model = writeTinyModel(join(folder.path, "whole"));
  const manifest = writeTinyCorpus(join(folder.path, "speech"), 2);
  const out = join(folder.path, "again");
  const sizes = [{ spec: "int8" }, { spec: "ternary+2:4" }];
  const stages = [
    {
      modifiers: [{ type: "many-sizes", schedule: "one-shot", sizes }],
      training: { steps: 2, speedPerturbation: false },
    },
  ];
  const compress = (): Promise<boolean> =>
    compressModel({ model, recipe: parseRecipe(JSON.stringify({ stages }), "r.yaml"), manifest, out });
  const weights = (): Buffer => readFileSync(join(out, "ternary+2-4", "model.safetensors"));
  t.true(await compress());
  const first = weights();
  rmSync(out, { recursive: true });
  t.true(await compress());
  t.deepEqual(weights(), first);
});

test("compress writes a folder for each size, which is what was trained", async (t) => {
  const model = writeTinyModel(join(folder.path, "float"));
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 2);
  const out = join(folder.path, "out");
  const stage = (more: object = {}, others: readonly object[] = []): object => ({
    modifiers: [
      {
        type: "many-sizes",
        sizes: [{ spec: "int2", clip: 0.6 }, { spec: "int8", name: "large" }, { spec: "int1", scale: "centred" }, { spec: "int4+2:4" }],
        ...more,
      },
      ...others,
    ],
    training: { steps: 2, speedPerturbation: false, emaDecay: 0.5 },
  });
  const compress = (stages: readonly object[], to = out): Promise<boolean> =>
    compressModel({ model, recipe: parseRecipe(JSON.stringify({ stages }), "r.yaml"), manifest, out: to });
  const subsampler = { type: "quantization", targets: ["encoder.subsampler.dense_1"], spec: "int6" };
  t.true(await compress([stage({}, [subsampler])]));
  t.deepEqual(readdirSync(out).sort(), ["int1", "int2", "int4+2-4", "large"]);
  const weight = "encoder.layers.1.feed_forward1.linear1.weight";
  for (const [name, spec] of [
    ["large", "int8"],
    ["int4+2-4", "int4+2:4"],
    ["int2", "int2"],
    ["int1", "int1"],
  ] as const) {
    const { specs } = loadModel(join(out, name)).compression;
    t.is(specs.get(weight)?.text, spec);
    t.is(specs.get("encoder.subsampler.dense_1.weight")?.text, "int6");
  }
  const bytes = (name: string): number => measureModel(join(out, name)).layers.find((layer) => layer.name === weight)?.bytes ?? NaN;
  t.true(bytes("int2") < bytes("large") / 2);
  const weights = (name: string, of: string): Float32Array =>
    tidy(() =>
      (
        trainableNetwork(loadModel(join(out, name), { weights: "float32" }))
          .parameters()
          .get(of) as Tensor
      ).toArray(),
    );
  // Sizes share what is not compressed, and round the same weights: the finer rounding of the same sign.
  t.deepEqual(weights("large", "ctc_head.weight"), weights("int2", "ctc_head.weight"));
  const [fine, sparse] = [weights("large", weight), weights("int4+2-4", weight)];
  t.true(
    sparse.every((value, i) => value === 0 || Math.sign(value) === Math.sign(fine[i] as number) || Math.abs(fine[i] as number) < 1e-2),
  );
  t.is(sparse.filter((value) => value !== 0).length <= sparse.length / 2, true);

  const report = formatSizeReports(out);
  for (const name of ["int1", "int2", "int4+2-4", "large"]) t.true(report.includes(`${join(out, name)}\nweight`));

  t.true(existsSync(`${out}.run/metrics.jsonl`));
  t.regex(readFileSync(`${out}.run/metrics.jsonl`, "utf8"), /"loss\.large"/);
  const later = { name: "later", modifiers: [{ type: "quantization" }], training: { steps: 1, speedPerturbation: false } };
  await t.throwsAsync(compress([stage(), later], `${out}2`), { code: "BAD_RECIPE", message: /its stage must be the last/ });
  await t.throwsAsync(compress([stage({}, [{ type: "quantization", spec: "int8" }])], `${out}3`), {
    code: "BAD_RECIPE",
    message: /is coded by many-sizes; give quantization other targets/,
  });
  t.throws(() => compress([stage({ sizes: [{ spec: "int8" }] })]), { code: "BAD_RECIPE" });
  t.throws(() => compress([stage({ sizes: [{ spec: "int8" }, { spec: "int8" }] })]), {
    code: "BAD_RECIPE",
    message: /two sizes are called "int8"/,
  });
  t.false(existsSync(`${out}2`));
});
