import "./gpu.js";
import test from "ava";
import { join } from "node:path";
import {
  deviceLinear,
  DeviceTensor,
  DeviceWeight,
  loadModel,
  packWeight,
  Recognizer,
  SequenceOffsets,
  Tensor,
  tidy,
  unpackWeight,
} from "../lib/index.js";
import { CtcBestPathSearch, CtcGreedySearch } from "../lib/decode/ctc_greedy.js";
import type { LogProbabilities } from "../lib/decode/hypothesis.js";
import { TransducerGreedySearch, transducerGreedy, type TransducerPath } from "../lib/decode/transducer_greedy.js";
import type { TransducerNetwork } from "../lib/models/speech_network.js";
import { floatsOf } from "../lib/nn/prediction_network.js";
import { PackedMatrix } from "../lib/quant/packed_matrix.js";
import { oneAhead } from "../lib/transcribe/passes.js";
import { randomTensor, randomValues } from "./gradient.js";
import { sharedFolder } from "./shared.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

/** Rows of the best path, in plain code. */
function bestPathOf({ values, frames, tokens }: LogProbabilities, blank: number): LogProbabilities {
  const path = Array.from({ length: frames }, (_, frame) => {
    const row = values.subarray(frame * tokens, (frame + 1) * tokens);
    const best = row.reduce((at, score, id) => (score > (row[at] as number) ? id : at), 0);
    return [best, row[best] as number, row[blank] as number];
  });
  return { values: Float32Array.from(path.flat()), frames, tokens: 3 };
}

test("chunks of samples become features, and the best path where it is wanted, on the GPU", (t) => {
  const folder = temporaryFolder("device-recognition");
  t.teardown(folder.clean);
  const model = loadModel(writeTinyModel(join(folder.path, "model")), { device: "cuda" });
  const onCpu = loadModel(model.folder);
  const recognizer = new Recognizer(model, { decoder: "greedy" });
  const samples = [2600, 200, 1900].map((length, index) => randomValues(length, index + 1).map((value) => 0.1 * value));
  const chunks = samples.map((audio) => recognizer.featureChunk(audio));
  const reference = new Recognizer(onCpu, { decoder: "greedy" });
  t.deepEqual(
    chunks.map(({ frames }) => frames),
    samples.map((audio) => reference.featureChunk(audio).frames),
  );
  t.true(chunks.every((chunk) => chunk.values.length === 0 && chunk.samples !== undefined));

  const all = recognizer.forward(chunks);
  const best = recognizer.forward(chunks.map((chunk) => ({ ...chunk, bestPath: true })));
  const mixed = recognizer.forward(chunks.map((chunk, index) => ({ ...chunk, bestPath: index === 0 })));
  t.deepEqual(
    mixed.map(({ tokens }) => tokens),
    [3, ...all.slice(1).map(({ tokens }) => tokens)],
  );
  t.deepEqual(mixed[2]?.values, all[2]?.values);
  t.deepEqual(mixed[0]?.values, best[0]?.values);
  best.forEach((chunk, index) => {
    const expected = bestPathOf(all[index] as LogProbabilities, onCpu.network.kind === "ctc" ? onCpu.network.blankId : 0);
    chunk.values.forEach((value, i) => t.true(Math.abs(value - (expected.values[i] as number)) < 1e-4));
  });
  const asked = chunks.map((chunk) => recognizer.begin?.([{ ...chunk, bestPath: true }]));
  t.deepEqual(
    asked.map((wait) => wait?.()[0]),
    best,
    "passes that are asked for before any is waited for",
  );
  t.is(reference.begin, undefined);
  const texts = (which: Recognizer): string[] => which.transcribeBatch(samples).map(({ text }) => text);
  t.deepEqual(texts(recognizer), texts(reference));
});

test("no audio, and less than a frame of it, have no words on the GPU either", (t) => {
  const folder = temporaryFolder("device-recognition-empty");
  t.teardown(folder.clean);
  const model = loadModel(writeTinyModel(join(folder.path, "model"), { languageModel: false }), { device: "cuda" });
  const recognizer = new Recognizer(model, { decoder: "greedy" });
  for (const samples of [0, 200]) t.is(recognizer.transcribe(new Float32Array(samples)).text, "");
  tidy(() => {
    const weight = DeviceWeight.from(packWeight(randomTensor([64, 32], 1), "int4"));
    t.deepEqual([...deviceLinear(DeviceTensor.zeros([0, 32]), weight, { batchInvariant: true }).shape], [0, 64]);
  });
});

test("greedy decoding of the best path is that of all probabilities, in pieces too", (t) => {
  const folder = temporaryFolder("device-recognition-greedy");
  t.teardown(folder.clean);
  const { tokenizer } = loadModel(writeTinyModel(join(folder.path, "model")));
  if (!tokenizer) return t.fail("the tiny model has a tokenizer");
  const [frames, times] = [23, { secondsPerFrame: 0.04 }];
  // Tokens that stay for some frames.
  const values = randomValues(frames * tokenizer.size, 3).map(
    (_, i, noise) => -2 - (noise[i - (Math.floor(i / tokenizer.size) % 3) * tokenizer.size] as number),
  );
  const [whole, pieces] = [new CtcGreedySearch(tokenizer, times), new CtcBestPathSearch(tokenizer, times)];
  whole.advance({ values, frames, tokens: tokenizer.size });
  const path = bestPathOf({ values, frames, tokens: tokenizer.size }, tokenizer.blankId);
  for (const [begin, end] of [
    [0, 9],
    [9, 9],
    [9, 23],
  ] as const)
    pieces.advance({ values: path.values.subarray(3 * begin, 3 * end), frames: end - begin, tokens: 3 });
  t.deepEqual(pieces.best(), whole.best());
  t.throws(() => pieces.advance({ values, frames, tokens: tokenizer.size }), { code: "INVALID_ARGUMENT", message: /no best path/ });
  t.throws(() => pieces.advance({ values: Float32Array.of(tokenizer.size, 0, 0), frames: 1, tokens: 3 }), {
    code: "INVALID_ARGUMENT",
    message: /use the tokenizer of the model/,
  });
});

const reference = sharedFolder() && join(sharedFolder() as string, "reference");

for (const [name, lengths, pieces] of [
  [
    "parakeet_tdt",
    [4, 1, 3],
    [
      [0, 1],
      [1, 4],
    ],
  ],
  ["parakeet_rnnt", [1, 2], []],
] as const) {
  (reference ? test : test.skip)(`${name}: tokens decoded on the GPU are those of the CPU, together or in pieces`, (t) => {
    const folder = join(reference as string, name);
    const gpu = loadModel(folder, { device: "cuda" }).network as TransducerNetwork;
    const cpu = loadModel(folder).network as TransducerNetwork;
    t.is(gpu.decoderOnGpu, undefined);
    tidy(() => gpu.encode(DeviceTensor.zeros([1, gpu.featureSize]), new SequenceOffsets([1])));
    t.truthy(gpu.decoderOnGpu);
    const features = Tensor.from(randomValues(60 * cpu.featureSize, 1), [60, cpu.featureSize]);
    const width = cpu.encode(features, new SequenceOffsets([60])).projected.dim(1);
    const drawn = (seed: number) =>
      lengths.map((frames, index) => ({ values: randomValues(frames * width, seed + index).map((value) => 4 * value), frames }));
    // Something is said, and small changes do not alter it: nothing hangs on the last bits of float16.
    const stepsOf = (inputs: ReturnType<typeof drawn>, factor: number): string =>
      JSON.stringify(
        transducerGreedy(
          cpu,
          inputs.map(({ values, frames }) => ({ values: values.map((value) => factor * value), frames })),
        ).map(({ steps }) => steps),
      );
    const clear = (inputs: ReturnType<typeof drawn>): boolean =>
      [0.97, 1.03].every((factor) => stepsOf(inputs, factor) === stepsOf(inputs, 1));
    const spoken = Array.from({ length: 100 }, (_, seed) => drawn(3 * seed)).find(
      (inputs) => transducerGreedy(cpu, inputs).some(({ tokens }) => tokens.length > 0) && clear(inputs),
    );
    const inputs = spoken ?? drawn(0);
    const expected = transducerGreedy(cpu, inputs);
    t.truthy(spoken);
    const same = (actual: readonly TransducerPath[], which: readonly TransducerPath[], what: string): void =>
      actual.forEach((path, index) => {
        const other = which[index] as TransducerPath;
        t.deepEqual(path.steps, other.steps, what);
        t.true(Math.abs(path.logProbability - other.logProbability) < 1e-2 * Math.max(1, Math.abs(other.logProbability)), what);
      });
    same(transducerGreedy(gpu, inputs), expected, "together");
    const searches = inputs.map(() => new TransducerGreedySearch(gpu));
    for (const [begin, end] of pieces) {
      TransducerGreedySearch.advance(
        searches,
        inputs.map(({ values, frames }) => {
          const part = values.subarray(begin * width, Math.min(end, frames) * width);
          return { values: part, frames: part.length / width };
        }),
      );
    }
    if (pieces.length > 0)
      same(
        searches.map((search) => search.path()),
        expected,
        "in pieces",
      );
    gpu.dispose();
  });
}

test("each pass of a batch is asked for before the one before it is waited for, and none is left when the batch ends early", (t) => {
  const events: string[] = [];
  const begin = (pass: number) => (events.push(`ask ${pass}`), () => (events.push(`wait ${pass}`), 10 * pass));
  const drop = (results: number): void => void events.push(`drop ${results}`);
  const results = [...oneAhead([1, 2, 3], begin, drop)];
  t.deepEqual(
    results,
    [1, 2, 3].map((pass) => ({ pass, results: 10 * pass })),
  );
  t.deepEqual(events.splice(0), ["ask 1", "ask 2", "wait 1", "ask 3", "wait 2", "wait 3"]);
  for (const { pass } of oneAhead([1, 2, 3], begin, drop)) if (pass === 1) break;
  t.deepEqual(events.splice(0), ["ask 1", "ask 2", "wait 1", "wait 2", "drop 20"]);
  const failing = (pass: number) => {
    if (pass === 2) throw new RangeError("no more");
    return begin(pass);
  };
  t.throws(() => [...oneAhead([1, 2], failing, drop)], { message: "no more" });
  t.deepEqual(events, ["ask 1", "wait 1", "drop 10"]);
});

test("packed weights are made floats again for the GPU", (t) => {
  const weight = packWeight(randomTensor([24, 16], 1), "int4");
  using matrix = PackedMatrix.from(weight);
  const difference = floatsOf(matrix)
    .toArray()
    .map((value, i) => Math.abs(value - (unpackWeight(weight).weight.toArray()[i] as number)));
  t.true(Math.max(...difference) < 1e-6);
});
