import { join } from "node:path";
import test from "ava";
import { AdapterBase } from "../lib/adapt/adapter_base.js";
import { loadModel, Recognizer, Transcriber, type RecognizedSpeech } from "../lib/index.js";
import type { SpeechModel } from "../lib/models/model_folder.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { randomAdapter } from "./adapters.js";
import { writeCohere, writeWhisper } from "./sequence_models.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("windows-together");
test.after.always(folder.clean);
const whisper = writeWhisper(join(folder.path, "whisper"));
const cohere = writeCohere(join(folder.path, "cohere"));

/** Shorter than a window, nothing, several windows, one. */
const recordings = [0.4, 0, 2.2, 1].map((seconds, index) => tones(seconds, index + 3));

/** The model, and how many windows each pass of its encoder takes. */
function counted(folder: string): { model: SpeechModel; passes: number[] } {
  const model = loadModel(folder);
  const network = model.network as SequenceToSequenceNetwork;
  const passes: number[] = [];
  const encode = network.encode.bind(network);
  network.encode = (features, offsets) => {
    passes.push(offsets.lengths.length);
    return encode(features, offsets);
  };
  return { model, passes };
}

for (const [name, path, options] of [
  ["Whisper", whisper, {}],
  ["Whisper with a beam", whisper, { language: "en", beamWidth: 3 }],
  ["Cohere", cohere, { language: "en" }],
] as const) {
  test(`${name}: windows of several recordings share passes, and each is written as it is alone`, async (t) => {
    const { model, passes } = counted(path);
    const recognizer = new Recognizer(model, options);
    const alone = recordings.map((samples) => recognizer.transcribe(samples));
    const windows = passes.length;
    t.true(windows >= recordings.length && passes.every((count) => count === 1), `${passes.join()}`);
    passes.length = 0;
    t.deepEqual(recognizer.transcribeBatch(recordings), alone);
    t.is(
      passes.reduce((sum, count) => sum + count, 0),
      windows,
      "no window is encoded twice",
    );
    t.is(passes[0], 3, "all that begin; nothing is said in no samples");
    const [, , long] = recordings as [Float32Array, Float32Array, Float32Array];
    const blocks = Array.from({ length: 8 }, (_, index) => long.subarray(4800 * index, 4800 * (index + 1)));
    t.deepEqual(await recognizer.transcribeStream(blocks), alone[2], "block by block");
    t.true(alone.some(({ tokens }) => tokens.length > 0));
  });
}

test("speakers with adapters of their own are written together as each is alone", (t) => {
  const { model, passes } = counted(whisper);
  const base = new AdapterBase(model);
  const [one, other] = [randomAdapter(base, 1, 0.5), randomAdapter(base, 2, 0.5)];
  const adapters = [one, undefined, other, one];
  const recognizer = new Recognizer(model);
  const alone = recordings.map((samples, index) => recognizer.transcribeBatch([samples], undefined, adapters[index])[0]);
  passes.length = 0;
  t.deepEqual(recognizer.transcribeBatch(recordings, undefined, adapters), alone as RecognizedSpeech[]);
  t.deepEqual(passes.slice(0, 2), [2, 1], "those with one adapter share a pass");
  t.notDeepEqual(alone[0], recognizer.transcribe(recordings[0] as Float32Array));
});

test("the work ends between passes when it is given up", (t) => {
  const { model, passes } = counted(whisper);
  t.throws(() => new Recognizer(model).transcribeBatch(recordings, () => passes.length === 1), { code: "ABORTED" });
  t.is(passes.length, 1);
});

test("recordings in a worker share passes, tell what is settled, and do not wait for those given up", async (t) => {
  const alone = recordings.map((samples) => new Recognizer(loadModel(whisper)).transcribe(samples));
  await using transcriber = await Transcriber.load({ model: whisper, maximumWaitMs: 50 });
  const controller = new AbortController();
  const givenUp = transcriber.transcribe(tones(2, 9), { signal: controller.signal });
  const together = recordings.map((samples) => transcriber.transcribe(samples));
  controller.abort();
  await t.throwsAsync(givenUp, { code: "ABORTED" });
  t.deepEqual(await Promise.all(together), alone);
  const partials: string[] = [];
  let settled = 0;
  for await (const text of transcriber.stream([recordings[2] as Float32Array])) {
    if (text.final) t.deepEqual(text.transcript, alone[2]);
    else {
      t.true(text.settledSeconds > settled && text.settledSeconds <= text.heardSeconds);
      settled = text.settledSeconds;
      partials.push(text.text);
    }
  }
  t.true(partials.length > 0 && partials.every((text) => (alone[2] as RecognizedSpeech).text.startsWith(text)));
});
