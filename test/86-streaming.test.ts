import test from "ava";
import { ChunkPlan, ChunkJoiner, joinChunks, planChunks } from "../lib/decode/overlap.js";
import { CtcGreedySearch } from "../lib/decode/ctc_greedy.js";
import { ctcGreedy, loadModel, LogMel, memoryStatistics, Recognizer, resetPeakMemory, setThreadCount, threadCount } from "../lib/index.js";
import { FeatureChunks } from "../lib/transcribe/feature_chunks.js";
import { randomLattice, tokenizerOf } from "./lattice.js";
import { temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("streaming");
test.after.always(folder.clean);
const model = loadModel(writeTinyModel(folder.path));
const recognizer = new Recognizer(model);

function* blocksOf(samples: Float32Array, length: number): Generator<Float32Array> {
  for (let begin = 0; begin < samples.length; begin += length) yield samples.subarray(begin, begin + length);
}

test.serial("a plan that learns the length piece by piece is the plan of the whole", (t) => {
  for (let length = 0; length < 150; length += 3) {
    const plan = new ChunkPlan(40, 8, 4);
    const chunks = [];
    for (let known = 0; known < length; known += 7) chunks.push(...plan.advance(known));
    chunks.push(...plan.advance(length), plan.finish(length));
    t.deepEqual(chunks, planChunks(length, 40, 8, 4), `length ${length}`);
  }
});

test.serial("chunks of features are rows of the features of the whole, bit for bit", (t) => {
  const frontEnd = new LogMel();
  for (const length of [0, 100, 400, 560, 8000, 40 * 160 + 240, 41 * 160 + 240, 16_001, 33_333]) {
    const samples = tones(length / 16000, 1);
    const whole = frontEnd.logMel(samples).toArray();
    const plan = planChunks(whole.length / 128, 40, 8, 4);
    for (const block of [1, 160, 1000, 40_000]) {
      const features = new FeatureChunks(frontEnd, new ChunkPlan(40, 8, 4));
      const chunks = [...blocksOf(samples, block)].flatMap((part) => [...features.push(part)]);
      chunks.push(features.finish());
      t.is(features.samples, length);
      t.deepEqual(
        chunks,
        plan.map(({ begin, end }) => ({ firstFrame: begin, frames: end - begin, values: whole.slice(begin * 128, end * 128) })),
        `${length} samples in blocks of ${block}`,
      );
    }
  }
});

test.serial("rows are given as soon as they are settled, and none is missing", (t) => {
  const chunks = planChunks(200, 30, 12).map(({ begin, end }, seed) => ({ ...randomLattice(end - begin, 5, seed), firstFrame: begin }));
  const tokenizer = tokenizerOf(["▁A", "▁B", "C", "D"]);
  const joiner = new ChunkJoiner(0);
  const search = new CtcGreedySearch(tokenizer, { secondsPerFrame: 0.04 });
  let frames = 0;
  for (const chunk of chunks) {
    const settled = joiner.push(chunk);
    frames += settled.frames;
    t.true(frames >= chunk.firstFrame, "what the chunk does not hold was given before");
    search.advance(settled);
    search.best(); // may be asked at any time
  }
  search.advance(joiner.finish());
  t.deepEqual(search.best()[0], ctcGreedy(joinChunks(chunks), tokenizer, { secondsPerFrame: 0.04 }));
  t.throws(() => new ChunkJoiner(0).finish(), { code: "INVALID_ARGUMENT", message: /no chunks/ });
});

test.serial("samples in blocks give what they give at once", async (t) => {
  for (const decoder of ["greedy", "beam"] as const) {
    const tested = new Recognizer(model, { decoder, beamWidth: 4 });
    for (const seconds of [0, 0.01, 1.3, 20.015, 20.03, 36.5, 53]) {
      const samples = tones(seconds, 3);
      const expected = tested.transcribe(samples);
      t.is(expected.duration, samples.length / 16000);
      for (const block of [4099, 500_000]) {
        t.deepEqual(await tested.transcribeStream(blocksOf(samples, block)), expected, `${seconds} s in blocks of ${block}`);
      }
    }
  }
});

test.serial("memory does not grow with the length of the audio", async (t) => {
  const peak = async (seconds: number): Promise<number> => {
    resetPeakMemory();
    await recognizer.transcribeStream(blocksOf(tones(seconds, 2), 16_000));
    return memoryStatistics().peakBytes;
  };
  // With several threads it varies by what they happen to hold at the same moment.
  const threads = threadCount();
  setThreadCount(1);
  try {
    const short = await peak(40);
    t.is(await peak(120), short);
  } finally {
    setThreadCount(threads);
  }
});

test.serial("a stream is left when the work is aborted", async (t) => {
  let given = 0;
  let closed = false;
  async function* endless(): AsyncGenerator<Float32Array> {
    try {
      for (; ; given++) yield tones(5, 1);
    } finally {
      closed = true;
    }
  }
  let asked = 0;
  await t.throwsAsync(
    recognizer.transcribeStream(endless(), () => asked++ > 1),
    { code: "ABORTED" },
  );
  t.is(asked, 3);
  t.true(closed);
  t.true(given < 15);
});

test.serial("a failure of the source is the failure of the transcription", async (t) => {
  async function* broken(): AsyncGenerator<Float32Array> {
    yield tones(1, 1);
    throw new RangeError("the line is dead");
  }
  await t.throwsAsync(recognizer.transcribeStream(broken()), { instanceOf: RangeError, message: "the line is dead" });
});
