// Transducers from samples to text on the GPU: what the encoder says stays there until it is decoded, and so does what the decoder knows.
import "./gpu.js";
import test, { type ExecutionContext } from "ava";
import { copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gpuHostTraffic, gpuMemoryStatistics, loadModel, Recognizer, type RecognizedSpeech } from "../lib/index.js";
import { ChunkPlan } from "../lib/decode/overlap.js";
import { AudioFeed } from "../lib/transcribe/audio_feed.js";
import { ForwardBatcher } from "../lib/transcribe/forward_batcher.js";
import { PartialRecognition } from "../lib/transcribe/partial_recognition.js";
import { recognizeFile, recognizeLive } from "../lib/transcribe/recording.js";
import { tinyFastConformer } from "./family_models.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("device-transducer-recognition");
test.after.always(folder.clean);
const tokenizer = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text", "tokenizer_metaspace.json");

/** Recognizers of one model on the CPU and on the GPU: random weights, of seeds with which rounding changes nothing of what it says. */
function recognizers(kind: "rnnt" | "tdt", config: object = {}): { onCpu: Recognizer; onGpu: Recognizer } {
  const sizes = { vocab_size: 61, blank_token_id: 60, decoder_hidden_size: 16, max_symbols_per_step: 2, encoder_config: tinyFastConformer };
  const durations = kind === "tdt" ? { durations: [0, 1, 2] } : {};
  const model = writeRandomModel(
    join(folder.path, `${kind}-${Object.keys(config).join("-")}`),
    { model_type: `parakeet_${kind}`, ...sizes, ...durations, ...config },
    { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 16 },
    { seed: kind === "tdt" ? 5 : 8 },
  );
  copyFileSync(tokenizer, join(model, "tokenizer.json"));
  const on = (device: "cpu" | "cuda"): Recognizer => new Recognizer(loadModel(model, { device }), { decoder: "greedy" });
  return { onCpu: on("cpu"), onGpu: on("cuda") };
}

const said = ({ tokens }: RecognizedSpeech): unknown[] => tokens.map(({ id, start, end }) => [id, start, end]);

/** What `work` copies and waits for, once what it needs is on the GPU; it must leave no memory in use. */
async function traffic(t: ExecutionContext, work: () => unknown, rehearsals = 2) {
  // Shapes that come again are recorded.
  for (let time = 0; time < rehearsals; time++) await work();
  const [memory, before] = [gpuMemoryStatistics().bytesInUse, gpuHostTraffic()];
  await work();
  const after = gpuHostTraffic();
  t.true(gpuMemoryStatistics().bytesInUse <= memory);
  const [down, bytes] = [after.copiesToHost - before.copiesToHost, after.bytesToHost - before.bytesToHost];
  return { down, bytes, waits: after.waits - before.waits };
}

const bytesOfBlock = 8 * 4 * 4; // eight steps of four floats

/** The recording in chunks that overlap, which are shorter than those of {@link Recognizer.transcribe}. */
function inChunks(recognizer: Recognizer, samples: Float32Array, chunksTaken = Infinity): RecognizedSpeech | undefined {
  using decoding = recognizer.decoding();
  const features = recognizer.chunksOf(new ChunkPlan(48, 16, 8)); // frames of 10 ms, 8 of them in one of the encoder
  const settings = recognizer.forwardSettings();
  for (const chunk of [...features.push(samples), features.finish()].slice(0, chunksTaken)) {
    for (const heard of recognizer.forward([{ ...chunk, ...settings }])) decoding.push(heard);
  }
  return chunksTaken === Infinity ? decoding.finish(samples.length) : undefined;
}

for (const kind of ["rnnt", "tdt"] as const) {
  test.serial(`${kind}: recordings of a batch give what they give on the CPU, and only blocks of steps come down`, async (t) => {
    const { onCpu, onGpu } = recognizers(kind);
    const samples = [0.4, 0.2, 0.7].map((seconds, index) => tones(seconds, index + 1));
    const expected = onCpu.transcribeBatch(samples).map(said);
    t.true(expected.every((tokens) => tokens.length > 0));
    t.deepEqual(onGpu.transcribeBatch(samples).map(said), expected);
    t.is(onGpu.transcribe(new Float32Array(0)).text, "");
    const { down, bytes, waits } = await traffic(t, () => onGpu.transcribeBatch(samples), 1);
    t.is(bytes, down * bytesOfBlock * samples.length);
    t.is(waits, down, "one for each block, none for the encoder");
    onGpu.model.network.dispose();
  });
}

test.serial("chunks that overlap, whose states stay on the GPU, give what they give on the CPU", async (t) => {
  const { onCpu, onGpu } = recognizers("tdt");
  const samples = tones(1.2, 3);
  const expected = said(inChunks(onCpu, samples) as RecognizedSpeech);
  t.deepEqual(said(inChunks(onGpu, samples) as RecognizedSpeech), expected);
  const { down, bytes, waits } = await traffic(t, () => inChunks(onGpu, samples), 1);
  t.true(down >= 3);
  t.deepEqual([bytes, waits], [down * bytesOfBlock, down]);
  await traffic(t, () => inChunks(onGpu, samples, 2), 0); // a recording that is given up leaves nothing behind
  onGpu.model.network.dispose();
});

test.serial(
  "partial texts of a stream are those of the CPU, asked for or not, and a stream that is dropped leaves nothing behind",
  async (t) => {
    const { onCpu, onGpu } = recognizers("rnnt");
    const samples = tones(0.6, 2);
    const lengths = { step: 0.16, leftContext: 0.16, lookAhead: 0.08, decisionLag: 0 };
    const texts = (recognizer: Recognizer, end = samples.length): string[] => {
      using partial = new PartialRecognition(recognizer, undefined, lengths);
      const settings = recognizer.forwardSettings();
      const found: string[] = [];
      for (let begin = 0; begin < end; begin += 1600) {
        const chunk = partial.push(samples.subarray(begin, begin + 1600));
        if (chunk) for (const heard of recognizer.forward([{ ...chunk, ...settings }])) found.push(partial.advance(heard).text);
      }
      return found;
    };
    const expected = texts(onCpu);
    t.true(expected.length >= 3 && expected.at(-1) !== "");
    t.deepEqual(texts(onGpu), expected);
    const { down, bytes, waits } = await traffic(t, () => texts(onGpu), 1);
    t.deepEqual([bytes, waits], [down * bytesOfBlock, down]);
    await traffic(t, () => texts(onGpu, samples.length / 2), 0);
    onGpu.model.network.dispose();
  },
);

test.serial("recordings that share passes, one of them with hotwords, and that are aborted", async (t) => {
  const { onCpu, onGpu } = recognizers("tdt");
  const samples = [0.5, 0.3].map((seconds, index) => tones(seconds, index + 4));
  const hotwords = ["cat"];
  const together = async (recognizer: Recognizer): Promise<unknown[]> => {
    const batcher = new ForwardBatcher(recognizer, { maximumWaitMs: 60_000 }); // the same passes every time
    const { signal } = new AbortController();
    const transcripts = await Promise.all([
      ...samples.map((audio) => recognizeFile([audio], { recognizer, batcher, options: {}, signal })),
      recognizeFile([samples[0] as Float32Array], { recognizer, batcher, options: { hotwords }, signal }),
    ]);
    return transcripts.map(said);
  };
  t.deepEqual(await together(onGpu), await together(onCpu));
  await traffic(t, () => together(onGpu), 1);

  const aborted = async (): Promise<void> => {
    const batcher = new ForwardBatcher(onGpu);
    const controller = new AbortController();
    const feed = new AudioFeed();
    const onPartial = (): void => {
      controller.abort();
      feed.fail(new RangeError("dropped"));
    };
    const live = recognizeLive(feed, { recognizer: onGpu, batcher, options: {}, signal: controller.signal, onPartial });
    feed.push(tones(1.3, 4));
    await t.throwsAsync(live, { message: "dropped" });
  };
  await traffic(t, aborted);
  onGpu.model.network.dispose();
});

test.serial("frames come down where the GPU does not decode: to a beam, or with more durations than kernels choose from", async (t) => {
  const { onCpu, onGpu } = recognizers("tdt", { durations: Array.from({ length: 17 }, (_, index) => index % 3) });
  const samples = [tones(0.3, 2)];
  t.deepEqual(onGpu.transcribeBatch(samples).map(said), onCpu.transcribeBatch(samples).map(said));
  const { bytes } = await traffic(t, () => onGpu.transcribeBatch(samples), 1);
  t.is(bytes, 4 * 16 * 4); // frames of 16 floats
  onGpu.model.network.dispose();
});
