import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "ava";
import {
  bitsPerWeight,
  compressModel,
  loadModel,
  measureModel,
  parseRecipe,
  SequenceOffsets,
  Tensor,
  tidy,
  type Recipe,
  type SpeechModel,
} from "../lib/index.js";
import { roundToNearest } from "./recipes.js";
import { editWeights, temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";
import { randomValues } from "./gradient.js";
import { rootMeanSquareError } from "./differences.js";

const folder = temporaryFolder("compress");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"));
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 6);

const compress = (recipe: Recipe, out: string, options: { model?: string; manifest?: string } = {}): Promise<boolean> =>
  compressModel({ model: options.model ?? float, recipe, manifest: options.manifest, out });

/** A stage of fine-tuning. */
const fineTuning = (modifiers: readonly object[], training: object): Recipe =>
  parseRecipe(JSON.stringify({ stages: [{ modifiers, training: { speedPerturbation: false, ...training } }] }), "r.yaml");

const offsets = new SequenceOffsets([90, 41]);
const features = randomValues(offsets.frames * 128, 3).map((value) => 4 * value - 4);
const logitsOf = ({ network }: SpeechModel): Float32Array =>
  tidy(() => (network as LasrForCtc).forward(Tensor.from(features, [offsets.frames, 128]), offsets).logits.toArray());

test.serial("every spec packs to the size it promises and computes what its float32 form computes", async (t) => {
  const original = logitsOf(loadModel(float));
  const largest = { int8: 8, int4: 4, int3: 3, int2: 2, "2:4": 16.67, "int4+2:4": 2.67, "int2+2:4": 1.67, "int4+1:4": 1.5 };
  const error = new Map<string, number>();
  for (const [spec, bits] of Object.entries(largest)) {
    const out = join(folder.path, spec.replace(":", "-"));
    t.true(await compress(roundToNearest(spec), out));
    const size = measureModel(out);
    t.is(size.layers.length, loadModel(float).network.blockWeights().length);
    for (const layer of size.layers) {
      const [rows, columns] = layer.shape as [number, number];
      t.is(layer.bitsPerWeight, bitsPerWeight(layer.spec, rows, columns));
      const scales = spec === "2:4" ? 0 : 32 / columns;
      t.true(layer.bitsPerWeight <= bits + scales + 8 / layer.weights, `${spec} ${layer.name}: ${layer.bitsPerWeight}`);
    }
    const total = size.layers.reduce((sum, layer) => sum + layer.bytes, 0);
    t.is(size.linear.bytes, total);
    t.is(size.linear.percentOfFloat32, (100 * total) / (4 * size.linear.weights));
    t.is(size.file.parameters, measureModel(float).file.parameters);

    const packed = logitsOf(loadModel(out));
    const unpacked = logitsOf(loadModel(out, { weights: "float32" }));
    // Packed integers meet activations rounded to int8: 127 steps to the largest of a row.
    t.true(rootMeanSquareError(packed, unpacked) < (spec === "2:4" ? 1e-5 : 0.05), `${spec}: ${rootMeanSquareError(packed, unpacked)}`);
    error.set(spec, rootMeanSquareError(unpacked, original));
  }
  const order = ["int8", "int4", "int3", "int2"].map((spec) => error.get(spec) as number);
  t.deepEqual(
    [...order].sort((a, b) => a - b),
    order,
    "fewer bits, larger error",
  );
  t.true((error.get("int8") as number) < 0.05);
});

test.serial("layers of one recipe differ, and what is excluded stays float32", async (t) => {
  const out = join(folder.path, "mixed");
  await compress(
    parseRecipe(
      JSON.stringify({
        stages: [
          {
            modifiers: [
              { type: "round-to-nearest", spec: "int4", ignore: ["*.o_proj"] },
              { type: "round-to-nearest", spec: "int8+2:4", targets: ["encoder.layers.1.*"], ignore: ["*.o_proj"] },
              { type: "round-to-nearest", spec: "int4+2:4", targets: ["*.conv_*"] },
              { type: "round-to-nearest", spec: "int8", targets: ["*.dense_1", "ctc_head"] },
            ],
          },
        ],
      }),
      "r.yaml",
    ),
    out,
  );
  const specs = new Map(measureModel(out).layers.map(({ name, spec }) => [name, spec]));
  t.is(specs.get("encoder.layers.0.self_attn.q_proj.weight"), "int4");
  t.is(specs.get("encoder.layers.1.self_attn.q_proj.weight"), "int8+2:4");
  t.is(specs.get("encoder.layers.0.self_attn.o_proj.weight"), "float32");
  t.is(specs.get("encoder.layers.1.self_attn.o_proj.weight"), "float32");
  t.is(specs.get("encoder.subsampler.conv_0.weight"), "int4+2:4");
  t.is(specs.get("encoder.subsampler.dense_1.weight"), "int8");
  t.is(specs.get("ctc_head.weight"), "int8");
  t.false(specs.has("encoder.subsampler.dense_0.weight"));
  const packed = logitsOf(loadModel(out));
  t.true(rootMeanSquareError(packed, logitsOf(loadModel(out, { weights: "float32" }))) < 0.05);
  for (const file of ["tokenizer.json", "language_model.bin", "preprocessor_config.json"]) {
    t.deepEqual(readFileSync(join(out, file)), readFileSync(join(float, file)));
  }
});

test.serial("compressing again gives the same bytes", async (t) => {
  await compress(roundToNearest("int4+2:4"), join(folder.path, "again"));
  t.deepEqual(
    readFileSync(join(folder.path, "again", "model.safetensors")),
    readFileSync(join(folder.path, "int4+2-4", "model.safetensors")),
  );
});

test.serial("misuse is a coded error and leaves nothing behind", async (t) => {
  const place = join(folder.path, "misuse");
  mkdirSync(join(place, "there"), { recursive: true });
  writeFileSync(join(place, "there", "mine.txt"), "mine");
  const refuse = async (
    recipe: Recipe,
    options: Parameters<typeof compress>[2] & { out?: string },
    code: string,
    message: RegExp,
  ): Promise<void> => {
    await t.throwsAsync(compress(recipe, options.out ?? join(place, "out"), options), { code, message });
    t.deepEqual(readdirSync(place), ["there"]);
  };
  const int4 = roundToNearest("int4");
  const sparsity = { type: "sparsity", pattern: "2:4", start: 4 };
  await refuse(int4, { out: join(place, "there") }, "INVALID_ARGUMENT", /there exists; name a folder that does not/);
  t.deepEqual(readdirSync(join(place, "there")), ["mine.txt"]);
  await refuse(int4, { out: join(place, "there", "mine.txt", "out") }, "FILE_UNWRITABLE", /mine\.txt/);
  await refuse(int4, { model: join(folder.path, "int8") }, "BAD_CHECKPOINT", /int8 is compressed already/);
  await refuse(int4, { model: join(folder.path, "none") }, "FILE_NOT_FOUND", /none does not exist/);
  await refuse(roundToNearest("int4", { nothing: "int8" }), {}, "BAD_RECIPE", /r:1: pattern "nothing" matches no layer/);
  await refuse(fineTuning([], { steps: 1 }), {}, "INVALID_ARGUMENT", /needs --data/);
  await refuse(
    fineTuning([sparsity], { steps: 4 }),
    { manifest },
    "BAD_RECIPE",
    /r\.yaml:1: sparsity: start must be below the steps of training, 4/,
  );
  await refuse(fineTuning([], { steps: 4, freeze: ["nothing"] }), { manifest }, "BAD_RECIPE", /pattern "nothing" matches no/);
  const damaged = writeTinyModel(join(folder.path, "damaged"));
  editWeights(damaged, (entries) => {
    const entry = entries.get("encoder.layers.1.self_attn.v_proj.weight")?.data as Uint8Array;
    entry.set(new Uint8Array(Float32Array.of(NaN).buffer));
  });
  await refuse(int4, { model: damaged }, "INVALID_ARGUMENT", /v_proj\.weight.*(NaN|finite)/);
});

test.serial("fine-tuning trains, resumes to the same bytes, and refuses the run of another recipe", async (t) => {
  const recipe = (steps: number, spec = "int4"): Recipe =>
    fineTuning(
      [
        { type: "quantization", spec },
        { type: "sparsity", pattern: "2:4", schedule: "few-shot", shots: 2, interval: 2 },
      ],
      { steps, learningRate: 1e-3, warmUpSteps: 1, batchSeconds: 5, features: join(folder.path, "features") },
    );
  const straight = join(folder.path, "straight");
  t.true(await compress(recipe(4), straight, { manifest }));
  t.is(
    readFileSync(join(`${straight}.run`, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n").length,
    4,
  );

  const stopped = join(folder.path, "stopped");
  const first = compress(recipe(4), stopped, { manifest });
  const stop = setInterval(() => {
    if (existsSync(join(`${stopped}.run`, "metrics.jsonl"))) process.emit("SIGTERM");
  }, 1);
  const completed = await first;
  clearInterval(stop);
  t.false(completed);
  t.false(existsSync(stopped));
  await t.throwsAsync(compress(recipe(4, "int8"), stopped, { manifest }), {
    code: "INVALID_ARGUMENT",
    message: /stopped\.run holds a run with another model, recipe/,
  });
  const [speech, claim] = [readFileSync(manifest), join(`${stopped}.run`, "run.json")];
  writeFileSync(manifest, `${String(speech)}\n${String(speech)}`);
  await t.throwsAsync(compress(recipe(4), stopped, { manifest }), {
    code: "INVALID_ARGUMENT",
    message: /stopped\.run holds a run with another content of .*; put back what the manifest held, delete the run, or name another/,
  });
  writeFileSync(manifest, speech);
  const { speech: digest, ...older } = JSON.parse(readFileSync(claim, "utf8")) as Record<string, unknown>;
  t.regex(String(digest), /^[0-9a-f]{64}$/);
  writeFileSync(claim, JSON.stringify(older)); // of a run that began before the digest was noted
  t.true(await compress(recipe(4), stopped, { manifest }));
  t.deepEqual(readFileSync(join(stopped, "model.safetensors")), readFileSync(join(straight, "model.safetensors")));
  t.notDeepEqual(readFileSync(join(stopped, "model.safetensors")), readFileSync(join(folder.path, "int4+2-4", "model.safetensors")));
  t.deepEqual(
    readdirSync(dirname(stopped)).filter((name) => name.startsWith(".")),
    [],
  );
});
