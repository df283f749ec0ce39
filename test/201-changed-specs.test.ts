import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compressModel, loadModel, parseRecipe } from "../lib/index.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("changed-specs");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"));
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 2);
const training = { steps: 1, batchSeconds: 5, speedPerturbation: false, specAugment: false, features: join(folder.path, "features") };
const calibration = { utterances: 2 };
const layer = "encoder.layers.0.self_attn.q_proj.weight";

async function compress(name: string, stages: readonly object[], data: string | undefined = manifest): Promise<string> {
  const out = join(folder.path, name);
  const recipe = parseRecipe(JSON.stringify({ stages }), "r.yaml");
  if (!(await compressModel({ model: float, recipe, manifest: data, out }))) throw new Error("the run was stopped");
  return out;
}
const stage = (modifier: object): object => ({ modifiers: [modifier] });
const fileOf = (path: string): string =>
  createHash("sha256")
    .update(readFileSync(join(path, "model.safetensors")))
    .digest("hex");
/** Spec of a layer, and the share of its weights that are zero. */
function outcome(path: string): [spec: string | undefined, zeros: number] {
  const model = loadModel(path, { weights: "float32" });
  const values = model.network.parameters().get(layer)?.toArray() as Float32Array;
  return [model.compression.specs.get(layer)?.text, values.filter((x) => x === 0).length / values.length];
}

for (const [first, second] of [
  ["int4", "2:4"],
  ["uint4", "int4"],
  ["int4+2:4", "int4+1:4"],
  ["2:4", "1:4"],
  ["uint4/g32+2:4", "uint4+3:4"],
] as const) {
  test.serial(`rounded as ${first}, then as ${second}, a weight is what the latter alone makes of it`, async (t) => {
    const rounded = (spec: string): object => stage({ type: "round-to-nearest", spec });
    const name = `${first}-${second}`.replaceAll(/\W/g, "-");
    const twice = await compress(`${name}-twice`, [rounded(first), rounded(second)], undefined);
    t.is(fileOf(twice), fileOf(await compress(`${name}-once`, [rounded(second)], undefined)));
    const tuned = { modifiers: [], training };
    const trained = await compress(`${name}-twice-tuned`, [rounded(first), rounded(second), { name: "tune", ...tuned }]);
    t.is(fileOf(trained), fileOf(await compress(`${name}-once-tuned`, [rounded(second), { name: "tune", ...tuned }])));
  });
}

test.serial("a share of all weights takes the place of N:M", async (t) => {
  const pruned = { modifiers: [{ type: "sparsity", pattern: "50%" }], training };
  t.deepEqual(outcome(await compress("share", [stage({ type: "round-to-nearest", spec: "2:4" }), pruned])), [undefined, 0.5]);
});

test.serial("a dense spec takes the place of N:M, in stages after it too", async (t) => {
  const dense = [stage({ type: "wanda", spec: "2:4", calibration }), stage({ type: "gptq", spec: "int8", calibration })];
  const [spec, zeros] = outcome(await compress("dense", [...dense, { modifiers: [{ type: "quantization" }], training }]));
  t.is(spec, "int8");
  t.true(zeros < 0.1, `${zeros}`);
  const unstructured = stage({ type: "wanda", spec: "float32", unstructured: 0.25, calibration });
  t.deepEqual(outcome(await compress("unstructured", [dense[0] as object, unstructured])), [undefined, 0.25]);
});

test.serial("new masks have scales of their own", async (t) => {
  const targets = [layer.replace(".weight", "")]; // one alone, whose inputs no other's masks change
  const pruned = stage({ type: "wanda", spec: "int4+2:4", clip: false, calibration, targets });
  const clipped = stage({ type: "round-to-nearest", spec: "int4+2:4", clip: 0.5, targets });
  t.is(fileOf(await compress("clipped", [clipped, pruned])), fileOf(await compress("pruned", [pruned])));
});

test.serial("a run that goes on after a stage that dropped scales or masks gives the same bytes", async (t) => {
  const recipes = {
    scales: [stage({ type: "gptq", spec: "int4", calibration }), stage({ type: "low-rank", share: 0.5, calibration })],
    masks: [stage({ type: "round-to-nearest", spec: "int4+2:4" }), stage({ type: "round-to-nearest", spec: "float32" })],
  };
  for (const [name, before] of Object.entries(recipes)) {
    const stages = [...before, { name: "tune", modifiers: [], training }];
    const out = await compress(name, stages);
    const whole = fileOf(out);
    rmSync(out, { recursive: true });
    rmSync(join(`${out}.run`, "tune"), { recursive: true });
    t.is(fileOf(await compress(name, stages)), whole, name);
  }
});

test.serial("scales are not kept for another number format", async (t) => {
  const stages = [
    stage({ type: "round-to-nearest", spec: "int4" }),
    { modifiers: [{ type: "quantization", spec: "int8", scale: "kept" }], training },
  ];
  await t.throwsAsync(compress("kept", stages), {
    code: "BAD_RECIPE",
    message: /r\.yaml:1: quantization: the scales that the stages before left for "encoder.* are those of int4; take another scale/,
  });
});
