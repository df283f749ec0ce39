/** Recordings of which nothing is said that is a number fail alone, whatever shares their passes. */
import { join } from "node:path";
import test from "ava";
import { Adapter, AdapterBase, loadModel, Recognizer, Tensor, Transcriber, writeAdapter, type RecognizedSpeech } from "../lib/index.js";
import { ForwardBatcher } from "../lib/transcribe/forward_batcher.js";
import { keep } from "../lib/tensor/scope.js";
import { writeWhisper } from "./sequence_models.js";
import { temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("bad-scores");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);
const clips = [1, 2, 3].map((seed) => tones(0.9, seed));

/** Finite factors whose products are not. */
function largeAdapter(base: AdapterBase): Adapter {
  const [[name, [out, input]]] = [...base.layers] as [[string, readonly [number, number]]];
  const large = (size: number, shape: readonly [number, number]): Tensor => keep(Tensor.from(new Float32Array(size).fill(1e30), shape));
  return new Adapter(new Map([[name, { down: large(input, [1, input]), up: large(out, [1, out]) }]]));
}

for (const [name, write] of [
  ["CTC", writeTinyModel],
  ["Whisper", writeWhisper],
] as const) {
  test(`${name}: an adapter that is too large to compute with fails the recordings that are heard with it`, async (t) => {
    const model = write(path(name));
    const loaded = loadModel(model);
    const recognizer = new Recognizer(loaded);
    const expected = clips.map((clip) => recognizer.transcribe(clip));
    const base = new AdapterBase(loaded);
    using large = largeAdapter(base);
    writeAdapter(path("adapters", name, "loud"), large, base, { dropout: 0, training: {} });
    const tooLarge = { code: "BAD_ADAPTER", message: /not numbers: the factors of the speaker's adapter are too large/ };
    t.throws(() => recognizer.transcribeBatch(clips, undefined, [undefined, large, undefined]), tooLarge);
    await using transcriber = await Transcriber.load({ model, adapters: path("adapters", name), maximumWaitMs: 50 });
    const others = clips.map((clip) => transcriber.transcribe(clip));
    const loud = clips.map((clip) => transcriber.transcribe(clip, { speaker: "loud" }));
    for (const failed of loud) await t.throwsAsync(failed, tooLarge);
    t.deepEqual(await Promise.all(others), expected);
  });
}

test("in a pass of several chunks one that is not heard is refused, and the others are answered", async (t) => {
  const recognizer = new Recognizer(loadModel(writeTinyModel(path("batch"))));
  using large = largeAdapter(new AdapterBase(recognizer.model));
  const passes: number[] = [];
  const batcher = new ForwardBatcher(recognizer, { maximumWaitMs: 0 }, ({ chunks }) => passes.push(chunks));
  const chunks = clips.map((clip) => recognizer.featureChunk(clip));
  const heard = await Promise.allSettled(
    chunks.map((chunk, index) =>
      batcher.forward({ ...chunk, adapter: index === 1 ? large : undefined }, { deadline: index, expected: false }),
    ),
  );
  t.deepEqual(passes, [3]);
  t.deepEqual(
    heard.map((result) => (result.status === "fulfilled" ? result.value : (result.reason as { code: string }).code)),
    [recognizer.forward([chunks[0] as never])[0], "BAD_ADAPTER", recognizer.forward([chunks[2] as never])[0]],
  );
});

test("a stream with a sample that is no number is refused where it comes in, and disturbs nobody", async (t) => {
  for (const [name, write] of [
    ["stream-ctc", writeTinyModel],
    ["stream-whisper", writeWhisper],
  ] as const) {
    const model = write(path(name));
    const recognizer = new Recognizer(loadModel(model));
    await using transcriber = await Transcriber.load({ model, maximumWaitMs: 50 });
    const broken = tones(2, 9);
    broken[20_000] = NaN;
    const listen = async (): Promise<RecognizedSpeech | undefined> => {
      for await (const text of transcriber.stream([broken.subarray(0, 16_000), broken.subarray(16_000)])) {
        if (text.final) return text.transcript;
      }
      return undefined;
    };
    const others = clips.map((clip) => transcriber.transcribe(clip));
    await t.throwsAsync(listen(), { code: "BAD_AUDIO", message: /sample 20000 is NaN/ });
    await t.throwsAsync(transcriber.stream([Float32Array.of(0, -Infinity)]).next(), {
      code: "BAD_AUDIO",
      message: /sample 1 is -Infinity/,
    });
    t.deepEqual(
      await Promise.all(others),
      clips.map((clip) => recognizer.transcribe(clip)),
    );
  }
});
