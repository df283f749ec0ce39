import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  loadModel,
  measureModel,
  readSafetensors,
  SequenceOffsets,
  Tensor,
  threadCount,
  writeSafetensors,
  type Evaluation,
  type ModelSize,
} from "../lib/index.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";
import { randomValues } from "./gradient.js";

const folder = temporaryFolder("cli-models");
test.after.always(folder.clean);
const inFolder = (...names: string[]): string => join(folder.path, ...names);
const model = writeTinyModel(inFolder("model"));
const manifest = writeTinyCorpus(inFolder("corpus"), 4);

const file = (name: string, text: string): string => {
  writeFileSync(inFolder(name), text);
  return inFolder(name);
};

test("compress writes a model that inspect and evaluate read", async (t) => {
  const out = inFolder("packed");
  const recipe = file("int4.yaml", "stages: [{modifiers: [{type: round-to-nearest, spec: int4+2:4}]}]\n");
  const compressed = await usmLite("compress", "--model", model, "--recipe", recipe, "--out", out);
  t.like(compressed, { status: 0, stderr: "" });
  t.regex(compressed.stdout, /encoder\.layers\.0\.self_attn\.q_proj\.weight +32x32 +int4\+2:4/);
  t.regex(compressed.stdout, /linear weights: \d+ weights in \d+ bytes, \d\.\d{3} bits per weight/);

  const inspected = await usmLiteHere("inspect", out, "--json");
  t.is(inspected.status, 0);
  const size = JSON.parse(inspected.stdout) as ModelSize;
  t.deepEqual(size, measureModel(out));
  t.is((await usmLiteHere("inspect", out)).stdout, compressed.stdout);
  t.like(JSON.parse((await usmLiteHere("inspect", "--model", model, "--json")).stdout) as ModelSize, {
    linear: { bitsPerWeight: 32, percentOfFloat32: 100 },
  });

  const results = await Promise.all(
    (["packed", "float32"] as const).map((weights) =>
      (weights === "packed" ? usmLite : usmLiteHere)("evaluate", "--model", out, "--data", manifest, "--json", "--weights", weights),
    ),
  );
  for (const [index, { status, stdout, stderr }] of results.entries()) {
    t.deepEqual([status, stderr], [0, ""]);
    const result = JSON.parse(stdout) as Evaluation;
    t.like(result, { utterances: 4, threads: index === 0 ? 1 : threadCount() });
    for (const key of ["wer", "cer", "words", "audioSeconds", "audioDecodeSeconds", "wallSeconds", "rtfx", "peakBytes"] as const) {
      t.true(Number.isFinite(result[key]) && result[key] > 0, key);
    }
    t.is(result.werInterval.length, 2);
    t.deepEqual(Object.keys(result.datasets).sort(), ["even", "odd"]);
    t.false("transcripts" in result);
  }

  const again = await usmLite("compress", "--model", model, "--recipe", recipe, "--out", out);
  t.is(again.status, 2);
  t.regex(again.stderr, /packed exists; name a folder that does not.*\[INVALID_ARGUMENT\]/);
  t.deepEqual(measureModel(out), size);
  const twice = await usmLiteHere("compress", "--model", out, "--recipe", recipe, "--out", inFolder("twice"));
  t.is(twice.status, 1);
  t.regex(twice.stderr, /packed is compressed already.*\[BAD_CHECKPOINT\]/);
  t.deepEqual(
    readdirSync(folder.path).filter((name) => name.startsWith(".") || name.startsWith("twice")),
    [],
  );
});

test("evaluate for people, with transcripts in a file", async (t) => {
  const transcripts = inFolder("transcripts.json");
  const { status, stdout } = await usmLiteHere(
    "evaluate",
    "--model",
    model,
    "--data",
    manifest,
    "--decoder",
    "greedy",
    "--transcripts",
    transcripts,
  );
  t.is(status, 0);
  t.regex(stdout, /^even: WER .*\nodd: WER .*\nall: WER [\d.]+ % \(95 % interval .* 4 utterances\n.*RTFx/s);
  const written = JSON.parse(readFileSync(transcripts, "utf8")) as Evaluation["transcripts"];
  t.is(written.length, 4);
  t.is(written[0]?.reference, "THE CAT SAT ON THE MAT");
});

test("what is wrong in a recipe, manifest or configuration is named with its place", async (t) => {
  const bad = file("corpus/bad.jsonl", `${readFileSync(manifest, "utf8").split("\n")[0]}\nclip1.wav HELLO\n`);
  mkdirSync(inFolder("corpus", "broken"));
  file("corpus/broken/a.wav", "RIFF");
  const broken = file("corpus/broken.jsonl", JSON.stringify({ audio_filepath: "broken/a.wav", duration: 1, text: "A" }));
  const out = inFolder("never");
  const recipe = (name: string, text: string): string[] => ["compress", "--model", model, "--recipe", file(name, text), "--out", out];
  const cases: [string[], number, RegExp][] = [
    [["evaluate", "--model", model, "--data", bad], 1, /bad\.jsonl:2: is not JSON.*"audio_filepath".*\[BAD_MANIFEST\]/],
    [["evaluate", "--model", model, "--data", broken], 1, /broken\.jsonl:1: .*a\.wav.*\[BAD_AUDIO\]/],
    [
      ["evaluate", "--model", model, "--data", manifest, "--transcripts", inFolder("none", "t.json")],
      1,
      /t\.json cannot be written.*its folder must exist.*\[FILE_UNWRITABLE\]/,
    ],
    [["evaluate", "--model", model], 2, /required option '--data <manifest>'/],
    [
      recipe("layer.yaml", "stages: [{modifiers: [{type: round-to-nearest, targets: [decoder.*], spec: int8}]}]"),
      1,
      /layer\.yaml:1: pattern "decoder\.\*" matches no layer; layers are named like.*\[BAD_RECIPE\]/,
    ],
    [
      recipe("spec.yaml", "stages:\n  - modifiers:\n      - type: round-to-nearest\n        spec: int7"),
      1,
      /spec\.yaml:4: key "stages\.0\.modifiers\.0\.spec": .*int7.*\[UNSUPPORTED_SPEC\]/,
    ],
    [
      recipe("tune.yaml", "stages: [{training: {steps: 2}}]"),
      2,
      /tune\.yaml trains or calibrates, which needs --data.*\[INVALID_ARGUMENT\]/,
    ],
    [[...recipe("tuned.yaml", "stages: [{training: {steps: 2}}]"), "--data", bad], 1, /bad\.jsonl:2: is not JSON.*\[BAD_MANIFEST\]/],
    [
      [...recipe("format.yaml", "stages: [{modifiers: [{type: round-to-nearest, spec: int4}]}]"), "--format", "int-quantized"],
      1,
      /is int4; change the recipe.*\[UNSUPPORTED_SPEC\]/,
    ],
    [["compress", "--model", model, "--out", out], 2, /required option '--recipe <file>'/],
    [["inspect", inFolder("corpus")], 1, /config\.json does not exist.*\[FILE_NOT_FOUND\]/],
  ];
  for (const [args, wanted, message] of cases) {
    const { status, stdout, stderr } = await usmLiteHere(...args);
    t.is(status, wanted, `${args.join(" ")}: ${stderr}`);
    t.is(stdout, "");
    t.regex(stderr, message);
  }
  t.false(existsSync(out));
  t.false(existsSync(`${out}.run`), "nothing is begun that would be bound to the bad manifest");
});

test("forward writes what the network computes, under transformers' names", async (t) => {
  const frames = 60;
  const values = randomValues(2 * frames * 128, 1);
  const mask = Int32Array.from({ length: 2 * frames }, (_, i) => (i < frames + 45 ? 1 : 0));
  const input = inFolder("in.safetensors");
  const output = inFolder("out.safetensors");
  writeSafetensors(input, [
    ["input_features", { dtype: "F32", shape: [2, frames, 128], data: values }],
    ["attention_mask", { dtype: "I32", shape: [2, frames], data: mask }],
  ]);
  t.like(await usmLite("forward", "--model", model, "--input", input, "--output", output), { status: 0, stdout: "", stderr: "" });
  using written = readSafetensors(output);
  t.deepEqual(written.names().sort(), ["encoder_last_hidden_state", "logits", "tokens"]);
  t.is(written.dtype("tokens"), "I64");
  const offsets = new SequenceOffsets([frames, 45]);
  const packed = Tensor.from(values.subarray(0, offsets.frames * 128), [offsets.frames, 128]);
  const direct = (loadModel(model).network as LasrForCtc).forward(packed, offsets);
  const [, hidden = 0, width = 0] = written.shape("logits");
  const logits = written.values("logits") as Float32Array;
  t.deepEqual(logits.slice(0, hidden * width), direct.logits.toArray().slice(0, hidden * width));
  const length = direct.offsets.lengths[1] as number;
  t.true(length < hidden);
  t.true(logits.subarray((hidden + length) * width).every((value) => value === 0));

  const shaped = inFolder("shaped.safetensors");
  writeSafetensors(shaped, [["input_features", { dtype: "F32", shape: [1, 20, 80], data: new Float32Array(1600) }]]);
  const integer = inFolder("integer.safetensors");
  writeSafetensors(integer, [["input_features", { dtype: "I32", shape: [1, 20, 128], data: new Int32Array(2560) }]]);
  for (const [file, message] of [
    [shaped, /shaped\.safetensors: input_features has shape \(1, 20, 80\); the model takes \(batch, frames, 128\).*\[BAD_CHECKPOINT\]/],
    [integer, /integer\.safetensors: input_features has dtype I32.*\[BAD_CHECKPOINT\]/],
    [output, /has no tensor "input_features".*\[BAD_CHECKPOINT\]/],
    [manifest, /manifest\.jsonl.*\[BAD_CHECKPOINT\]/],
  ] as const) {
    const { status, stderr } = await usmLiteHere("forward", "--model", model, "--input", file, "--output", inFolder("no.safetensors"));
    t.is(status, 1);
    t.regex(stderr, message);
    t.false(existsSync(inFolder("no.safetensors")));
  }
});

test("tune keeps the weights of the language model in the model folder", async (t) => {
  const tuned = writeTinyModel(inFolder("tuned"));
  t.is(loadModel(tuned).languageModelWeights, undefined);
  const run = await usmLiteHere("tune", "--model", tuned, "--data", manifest, "--text", manifest);
  t.is(run.status, 1, "nothing is left of the text");
  t.regex(run.stderr, /has no transcript that is not in .*\[BAD_MANIFEST\]/);
  const { status, stdout } = await usmLiteHere("tune", "--model", tuned, "--data", manifest);
  t.is(status, 0);
  const [best] = stdout.split("\n").map((line) => /^alpha ([\d.]+), beta (-?[\d.]+), blank penalty ([\d.]+): WER [\d.]+ %$/.exec(line));
  t.deepEqual(loadModel(tuned).languageModelWeights, {
    alpha: Number(best?.[1]),
    beta: Number(best?.[2]),
    blankPenalty: Number(best?.[3]),
  });

  writeFileSync(join(tuned, "language_model.json"), '{"alpha": -1, "beta": 0}');
  t.throws(() => loadModel(tuned), { code: "BAD_CONFIG", message: /language_model\.json: key "alpha"/ });
  const silent = writeTinyModel(inFolder("silent"), { languageModel: false });
  t.like(await usmLiteHere("tune", "--model", silent, "--data", manifest), { status: 2, stdout: "" });
});
