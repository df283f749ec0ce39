import { existsSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { packedEntries, packedOutline } from "../lib/checkpoint/packed_weights.js";
import { dtypeOfTensor } from "../lib/checkpoint/safetensors_dtype.js";
import {
  compressModel,
  dryRun,
  formatDryRun,
  measureModel,
  packWeight,
  parseRecipe,
  parseWeightSpec,
  readSafetensors,
  Tensor,
  tidy,
  writeSafetensors,
  type SafetensorsEntry,
} from "../lib/index.js";
import { usmLiteHere } from "./command_line.js";
import { familyModels, languageOf, writeFamilyModel, writeShortCorpus, type FamilyName } from "./family_models.js";
import { randomTensor } from "./gradient.js";
import { editWeights, temporaryFolder, writeTinyModel } from "./tiny_model.js";
import { formats, sparsities } from "./weight_formats.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models");
const folder = temporaryFolder("dry-run");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"), { languageModel: false });

const recipe = (...stages: object[]) => parseRecipe(JSON.stringify({ stages }), "r");

test("a dry run says the sizes that compressing gives, and writes nothing", async (t) => {
  const settings = recipe({
    modifiers: [
      { type: "round-to-nearest", spec: "int4+2:4" },
      { type: "round-to-nearest", spec: "int8/g32", targets: ["*.conv_*", "encoder.layers.0.*"] },
      { type: "round-to-nearest", spec: "ternary", targets: ["*.q_proj"] },
    ],
  });
  const predicted = dryRun({ model: float, recipe: settings, manifest: undefined });
  const out = join(folder.path, "out");
  t.false(existsSync(out));
  await compressModel({ model: float, recipe: settings, manifest: undefined, out });
  const found = measureModel(out);
  t.deepEqual(predicted.size, found);
  t.deepEqual(predicted.undecided, []);
});

const sizeOf = (model: string): number => statSync(join(model, "model.safetensors")).size;

test("sizes are those of the file, whatever the family, whether weights are packed one by one or after calibration", async (t) => {
  const manifest = writeShortCorpus(join(folder.path, "corpus"), 1);
  const once = recipe({ modifiers: [{ type: "round-to-nearest", spec: "int4/g32+2:4" }] });
  const heard = recipe({ modifiers: [{ type: "gptq", spec: "int4+2:4", calibration: { utterances: 1 } }] });
  for (const family of Object.keys(familyModels) as FamilyName[]) {
    const model = writeFamilyModel(folder.path, family);
    editWeights(model, (entries) => {
      const half = [...entries].find(([name, { shape }]) => shape.length === 1 && !name.includes("running"));
      const [name, { shape }] = half as [string, SafetensorsEntry];
      entries.set(name, { dtype: "F16", shape, data: new Uint16Array(shape[0] as number) });
      // torch counts batches; training drops what it does not need.
      for (const mean of [...entries.keys()].filter((key) => key.endsWith("running_mean")))
        entries.set(mean.replace("running_mean", "num_batches_tracked"), { dtype: "I64", shape: [], data: new BigInt64Array(1) });
    });
    for (const [way, settings] of Object.entries({ once, heard })) {
      const out = join(folder.path, `${family}-${way}`);
      const options = { model, recipe: settings, manifest, ...languageOf(family) };
      t.true(await compressModel({ ...options, out }));
      const { size } = dryRun(options);
      t.is(size.file.bytes, sizeOf(out), `${family}, ${way}`);
      t.deepEqual(size, measureModel(out));
    }
  }
});

test("half-precision and sharded checkpoints, other layouts and other languages have the size that is said", async (t) => {
  const half = writeTinyModel(join(folder.path, "half"), { languageModel: false });
  editWeights(half, (entries) => {
    for (const [name, { shape }] of entries)
      entries.set(name, { dtype: "BF16", shape, data: new Uint16Array(shape.reduce((product, extent) => product * extent, 1)) });
  });
  const sharded = writeTinyModel(join(folder.path, "sharded"), { languageModel: false });
  const weights = join(sharded, "model.safetensors");
  using whole = readSafetensors(weights);
  const entries = whole.names().map((name) => [name, { dtype: "F32", shape: whole.shape(name), data: whole.bytes(name) }] as const);
  const shards = [entries.slice(20), entries.slice(0, 20)].map((part, index) => [`model-${index}.safetensors`, part] as const);
  for (const [name, part] of shards) writeSafetensors(join(sharded, name), part);
  const weight_map = Object.fromEntries(shards.flatMap(([file, part]) => part.map(([name]) => [name, file])));
  writeFileSync(join(sharded, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  rmSync(weights);
  const dense = recipe({ modifiers: [{ type: "round-to-nearest", spec: "int8", targets: ["*.q_proj"] }] });
  const adapters = recipe({ modifiers: [{ type: "round-to-nearest", spec: "int8", targets: ["*.attention.*"] }] });
  const cases: readonly (Omit<Parameters<typeof dryRun>[0], "manifest"> & { readonly case: string })[] = [
    { case: "half", model: half, recipe: dense },
    { case: "sharded", model: sharded, recipe: dense },
    { case: "bytes", model: float, recipe: dense, format: "int-quantized" },
    { case: "words", model: float, recipe: dense, format: "pack-quantized" },
    { case: "language", model: join(fixtures, "mms"), recipe: adapters, language: "fra" },
  ];
  for (const { case: name, ...settings } of cases) {
    const [options, out] = [{ ...settings, manifest: undefined }, join(folder.path, `case-${name}`)];
    await compressModel({ ...options, out });
    const { size } = dryRun(options);
    t.is(size.file.bytes, sizeOf(out), name);
    t.deepEqual(size, measureModel(out), name);
  }
});

test("the outline of a packed weight is what packing gives, for every spec", (t) => {
  const doubled = ["int4/g32/dq", "nf4/g64/dq", "ternary/g32/dq"];
  for (const shape of [
    [3, 70],
    [33, 17],
    [40, 7, 3],
  ])
    for (const text of [...formats, ...doubled].flatMap((format) => sparsities.map((sparsity) => format + sparsity))) {
      if (text === "float32") continue;
      const spec = parseWeightSpec(text);
      tidy(() => {
        const entries = packedEntries("w", packWeight(randomTensor(shape, 1), text));
        const found = entries.map(([name, entry]) => {
          const dtype = entry instanceof Tensor ? dtypeOfTensor[entry.dtype] : entry.dtype;
          const { byteLength } = entry instanceof Tensor ? entry.toArray() : entry.data;
          return { name, dtype, shape: [...entry.shape], bytes: byteLength };
        });
        const outline = packedOutline("w", shape, spec);
        t.deepEqual(
          outline.map((entry) => ({ ...entry, shape: [...entry.shape] })),
          found,
          text,
        );
      });
    }
});

test("time grows with what there is to do", (t) => {
  const secondsOf = (...stages: object[]): number[] =>
    dryRun({ model: float, recipe: recipe(...stages), manifest: undefined }).stages.map(({ seconds }) => seconds);
  const gptq = (utterances: number, sequential = true): object => ({
    modifiers: [{ type: "gptq", spec: "int4", calibration: { utterances, sequential } }],
  });
  const training = (steps: number): object => ({ modifiers: [{ type: "quantization" }], training: { steps } });
  const [little = 0, short = 0] = secondsOf({ name: "a", ...gptq(1) }, { name: "b", ...training(10) });
  const [much = 0, long = 0] = secondsOf({ name: "a", ...gptq(1000) }, { name: "b", ...training(10_000) });
  // The speed of the machine is measured each time, and differs; a factor of 1000 is beyond that.
  t.true(much > 10 * little && long > 20 * short && little > 0 && short > 0);
  t.deepEqual(secondsOf({ modifiers: [{ type: "round-to-nearest", spec: "int4" }] }), [0]);
});

test("the tables name layers, stages and what is decided later", (t) => {
  const text = formatDryRun(
    dryRun({
      model: float,
      recipe: recipe({
        name: "choose",
        modifiers: [{ type: "mixed-precision", specs: ["int8", "int4"], budget: "20%" }, { type: "gptq" }],
      }),
      manifest: undefined,
    }),
  );
  t.regex(text, /encoder\.layers\.0\.self_attn\.q_proj\.weight +32x32 +int8/);
  t.regex(text, /mixed-precision \(r:1\) chooses specs in view of speech/);
  t.regex(text, /stage choose: (less than a second|about \d+ s) on this machine/);
  t.throws(
    () => dryRun({ model: float, recipe: recipe({ modifiers: [{ type: "gptq", spec: "int4", targets: ["none"] }] }), manifest: undefined }),
    { code: "BAD_RECIPE", message: /matches no layer/ },
  );
});

test("the command: --dry-run needs no --out, anything else does", async (t) => {
  const file = join(folder.path, "recipe.yaml");
  writeFileSync(file, "stages: [{modifiers: [{type: round-to-nearest, spec: int4}]}]\n");
  const [dry, real] = await Promise.all([
    usmLiteHere("compress", "--model", float, "--recipe", file, "--dry-run"),
    usmLiteHere("compress", "--model", float, "--recipe", file),
  ]);
  t.like(dry, { status: 0, stderr: "" });
  t.regex(dry.stdout, /linear weights: .*\n.*\n\nstage stage-1: less than a second/);
  t.is(real.status, 2);
  t.regex(real.stderr, /name the folder to make with --out/);
});

test("a model that is compressed already is refused, dry or not", async (t) => {
  const packed = join(folder.path, "packed-before");
  const settings = recipe({ modifiers: [{ type: "round-to-nearest", spec: "int8" }] });
  await compressModel({ model: float, recipe: settings, manifest: undefined, out: packed });
  const refused = { code: "BAD_CHECKPOINT", message: /is compressed already; compress the float model it was made from/ };
  t.throws(() => dryRun({ model: packed, recipe: settings, manifest: undefined }), refused);
  await t.throwsAsync(compressModel({ model: packed, recipe: settings, manifest: undefined, out: join(folder.path, "twice") }), refused);
});
