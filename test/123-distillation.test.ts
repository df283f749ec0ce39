import { readdirSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  compressModel,
  Distillation,
  loadModel,
  parseRecipe,
  Tape,
  tidy,
  Tensor,
  Trainer,
  warmupConstant,
  type DistillationOptions,
  type TrainingContext,
} from "../lib/index.js";
import type { TrainableNetwork } from "../lib/models/trainable.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { parseWeightSpec } from "../lib/quant/weight_spec.js";
import { WeightQuantization } from "../lib/train/weight_quantization.js";
import { freshModel, OneBatch } from "./trainable_models.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("distillation");
test.after.always(folder.clean);

const context = (): TrainingContext => ({ training: true, random: new RandomStream(1), step: 0 });
const terms: DistillationOptions = { labels: 1, logits: 1, temperature: 1, frames: "all", hidden: 0, blankId: 6 };

/** Loss of one step of `student`, taught as `options` say. */
const lossOf = (
  student: TrainableNetwork,
  teacher: TrainableNetwork | "self",
  options: Partial<DistillationOptions>,
  more: Partial<TrainingContext> = {},
): number =>
  tidy(() => {
    const batch = { ...new OneBatch(student).batch(), plain: true };
    const modifier = new Distillation(student, teacher, { ...terms, ...options });
    return modifier.loss(batch, { ...context(), ...more }, (inner) => student.loss(batch, inner)).loss.toArray()[0] as number;
  });

test("a model has nothing to learn from itself, and something from another", (t) => {
  for (const [name, parts] of [
    ["parakeet_ctc", { logits: 1 }],
    ["parakeet_ctc", { logits: 0, hidden: 2 }],
    ["hubert", { hidden: 1 }],
    ["parakeet_rnnt", { logits: 0, hidden: 1 }],
    ["parakeet_rnnt", { logits: 1 }],
    ["parakeet_tdt", { logits: 1 }],
  ] as const) {
    const [student, same, other] = [freshModel(name), freshModel(name), freshModel(name, 7)];
    const alone = lossOf(student, same, { logits: 0, hidden: 0 });
    t.true(Math.abs(lossOf(student, same, parts) - alone) < 1e-5, name);
    t.true(lossOf(student, other, parts) > alone + 1e-3, name);
    t.true(Math.abs(lossOf(student, same, { ...parts, labels: 0.25 }) - alone / 4) < 1e-5, name);
  }
});

test("the weights of frames are those that the teacher's blank leaves", (t) => {
  const [student, teacher] = [freshModel("parakeet_ctc"), freshModel("parakeet_ctc", 7)];
  const bias = teacher.parameters().get("ctc_head.bias") as Tensor;
  const distance = (frames: DistillationOptions["frames"], blank: number): number => {
    bias.write(bias.toArray().map((_, id) => (id === 6 ? blank : 0)));
    return lossOf(student, teacher, { frames, labels: 0 });
  };
  // A teacher that says blank throughout teaches nothing where blanks do not count.
  t.is(distance("non-blank", 60), 0);
  t.true(distance("all", 60) > 1);
  // Without any blank all frames count alike.
  const all = distance("all", -60);
  for (const frames of ["non-blank", "weighted"] as const) t.true(Math.abs(distance(frames, -60) - all) < 1e-4 * all, frames);
});

test("only the student is trained, by its teacher's weights before rounding if it teaches itself", (t) => {
  const [student, teacher] = [freshModel("parakeet_ctc"), freshModel("parakeet_ctc", 7)];
  for (const network of [student, teacher]) for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
  tidy(() => {
    const tape = new Tape();
    const batch = new OneBatch(student).batch();
    const modifier = new Distillation(student, teacher, { ...terms, hidden: 1 });
    tape.backward(tape.record(() => modifier.loss(batch, context(), (inner) => student.loss(batch, inner))).loss);
    t.true([...student.parameters().values()].every((parameter) => tape.gradientOf(parameter)));
    t.true([...teacher.parameters().values()].every((parameter) => !tape.gradientOf(parameter)));
    tape.dispose();
  });
  t.true(Math.abs(lossOf(student, "self", { labels: 0 })) < 1e-6);
  const quantization = new WeightQuantization(student, new Map(student.blockWeights().map((name) => [name, parseWeightSpec("int2")])));
  t.true(lossOf(student, "self", { labels: 0 }, { transformWeight: (name, weight) => quantization.transformWeight(name, weight) }) > 1e-3);
});

test("the teacher multiplies by its own weights also where the student has packed the same layers in this step", (t) => {
  const [student, teacher] = [freshModel("parakeet_ctc"), freshModel("parakeet_ctc", 7)];
  const weights = new Map(student.blockWeights().map((name) => [name, parseWeightSpec("int2")]));
  const quantization = new WeightQuantization(student, weights, { activations: "int8" });
  quantization.beforeStep(0, new RandomStream(1));
  const more = {
    transformWeight: (name: string, weight: Tensor) => quantization.transformWeight(name, weight),
    packedWeight: (name: string, weight: Tensor) => quantization.packedWeight(name, weight),
  };
  const before = lossOf(student, teacher, { labels: 0 }, more);
  t.is(lossOf(student, teacher, { labels: 0 }, more), before);
  quantization.dispose();
});

test("a quantized model comes closer to its teacher", async (t) => {
  const [student, teacher] = [freshModel("parakeet_ctc", 7), freshModel("parakeet_ctc", 7)];
  const distances: number[] = [];
  const quantization = new WeightQuantization(student, new Map(student.blockWeights().map((name) => [name, parseWeightSpec("int3")])));
  const trainer = new Trainer(student, new OneBatch(student), {
    folder: join(folder.path, "closer"),
    totalSteps: 12,
    schedule: warmupConstant({ peak: 3e-3, warmupSteps: 1 }),
    modifiers: [new Distillation(student, teacher, { ...terms, labels: 0, hidden: 1 }), quantization],
    onStep: (metrics) => distances.push((metrics as unknown as { distillation: number }).distillation),
  });
  await trainer.run();
  trainer.dispose();
  t.true((distances[11] as number) < 0.75 * (distances[0] as number), `${distances[0]} to ${distances[11]}`);
});

test("a run that was killed after any step goes on to the same bits, with activations in whole numbers", async (t) => {
  const run = async (name: string, from?: string): Promise<{ weights: Map<string, number[]>; checkpoints: string[] }> => {
    const [student, teacher] = [freshModel("lasr_ctc", from ? 3 : 7), freshModel("lasr_ctc", 7)];
    const quantization = new WeightQuantization(student, new Map(student.blockWeights().map((layer) => [layer, parseWeightSpec("int4")])), {
      activations: "int8",
    });
    const trainer = new Trainer(student, new OneBatch(student), {
      folder: join(folder.path, name),
      totalSteps: 3,
      schedule: warmupConstant({ peak: 3e-3, warmupSteps: 1 }),
      modifiers: [new Distillation(student, teacher, { ...terms, hidden: 1 }), new Distillation(student, "self", terms), quantization],
      checkpoints: { everySteps: 1 },
    });
    if (from) trainer.resume(from);
    await trainer.run();
    const weights = new Map([...student.parameters(), ...student.buffers()].map(([key, tensor]) => [key, [...tensor.toArray()]]));
    trainer.dispose();
    const place = join(folder.path, name, "checkpoints");
    return {
      weights,
      checkpoints: readdirSync(place)
        .sort()
        .map((file) => join(place, file)),
    };
  };
  const whole = await run("whole");
  t.is(whole.checkpoints.length, 3);
  for (const [index, checkpoint] of whole.checkpoints.slice(0, -1).entries())
    t.deepEqual((await run(`rest-${index}`, checkpoint)).weights, whole.weights);
});

test("compress distils by recipe, and says what does not fit", async (t) => {
  const model = writeTinyModel(join(folder.path, "float"));
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 2);
  const compress = (modifier: object, out: string): Promise<boolean> => {
    const stage = {
      modifiers: [
        { type: "distillation", ...modifier },
        { type: "quantization", spec: "int4" },
      ],
      training: { steps: 1, speedPerturbation: false },
    };
    return compressModel({
      model,
      recipe: parseRecipe(JSON.stringify({ stages: [stage] }), "r.yaml"),
      manifest,
      out: join(folder.path, out),
    });
  };
  for (const teacher of ["self", model])
    t.true(await compress({ teacher, hidden: 1, temperature: 2 }, `out-${teacher.replace(/.*\//, "path")}`));
  t.is(loadModel(join(folder.path, "out-self")).compression.specs.get("encoder.layers.0.self_attn.q_proj.weight")?.text, "int4");
  await t.throwsAsync(compress({ logits: 0 }, "x"), { code: "BAD_RECIPE", message: /nothing is distilled/ });
  await t.throwsAsync(compress({ hidden: 1, layers: [2] }, "y"), {
    code: "INVALID_ARGUMENT",
    message: /no block 2 in the teacher; the last is 1/,
  });
  await t.throwsAsync(compress({ teacher: join(folder.path, "nowhere") }, "z"), { code: "FILE_NOT_FOUND" });
  t.throws(() => compress({ frames: "some" }, "x"), { code: "BAD_RECIPE", message: /r\.yaml:1/ });
});
