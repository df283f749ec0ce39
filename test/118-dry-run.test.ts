import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compressModel, dryRun, formatDryRun, measureModel, parseRecipe } from "../lib/index.js";
import { usmLite } from "./command_line.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

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
  t.deepEqual(predicted.size.layers, found.layers);
  t.deepEqual(predicted.size.linear, found.linear);
  t.is(predicted.size.file.parameters, found.file.parameters);
  // The header of the file and the shapes beside packed weights are not counted.
  t.true(predicted.size.file.bytes < found.file.bytes && predicted.size.file.bytes > 0.7 * found.file.bytes);
  t.deepEqual(predicted.undecided, []);
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
    usmLite("compress", "--model", float, "--recipe", file, "--dry-run"),
    usmLite("compress", "--model", float, "--recipe", file),
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
