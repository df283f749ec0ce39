/** One recording from its samples to text, with forward passes shared with other recordings. */
import type { Chunk } from "../decode/overlap.js";
import type { RecognizedSpeech } from "./decoding.js";
import type { FeatureChunk } from "./feature_chunks.js";
import type { ForwardBatcher } from "./forward_batcher.js";
import { PartialRecognition, type PartialText } from "./partial_recognition.js";
import type { Recognizer } from "./recognizer.js";
import type { ForwardChunk } from "./passes.js";
import type { ResolvedRecordingOptions } from "./recognizer_options.js";
import type { DecodedWindow, Window } from "./window_decoding.js";
import { recognizeWindows } from "./window_recognition.js";

export interface Recording {
  readonly recognizer: Recognizer;
  readonly batcher: ForwardBatcher<ForwardChunk, Chunk>;
  /** For a model that decodes windows. */
  readonly windows?: ForwardBatcher<Window, DecodedWindow> | undefined;
  readonly options: ResolvedRecordingOptions;
  readonly signal: AbortSignal;
  /** Asks whether the signal was aborted, also while a pass keeps the thread busy. */
  readonly isAborted?: (() => boolean) | undefined;
  readonly onPartial?: ((partial: PartialText) => void) | undefined;
}

// Milliseconds until a chunk should have passed through the network: who speaks waits for the end of what they said first of all.
const allowed = { file: 2000, partial: 200, last: 100 } as const;

/**
 * A recording that is read as fast as it is recognized, such as a file.
 * @throws UsmLiteError ABORTED, INVALID_ARGUMENT, and whatever reading `blocks` throws
 */
export async function recognizeFile(
  blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  recording: Recording,
): Promise<RecognizedSpeech> {
  const { recognizer, batcher, windows, options, signal, onPartial } = recording;
  if (windows) return recognizeWindows(blocks, { ...recording, windows }, { window: allowed.file, last: allowed.file, expected: true });
  using decoding = recognizer.decoding(options);
  const features = recognizer.featureChunks();
  let heardSeconds = 0;
  const settings = recognizer.forwardSettings(options);
  const recognize = async (chunk: FeatureChunk): Promise<void> => {
    const output = await batcher.forward({ ...chunk, ...settings }, { deadline: performance.now() + allowed.file, signal });
    decoding.push(output);
    heardSeconds = (chunk.firstFrame + chunk.frames) / recognizer.melRate;
    onPartial?.({ text: decoding.settledText(), settledSeconds: chunk.firstFrame / recognizer.melRate, heardSeconds });
  };
  batcher.join();
  try {
    for await (const block of blocks) {
      for (const chunk of features.push(block)) await recognize(chunk);
    }
    await recognize(features.finish());
  } finally {
    batcher.leave();
  }
  return decoding.finish(features.samples);
}

/**
 * A recording that arrives while it is spoken. Partial texts come from chunk-wise attention; the result is what
 * {@link recognizeFile} gives for the same samples.
 * @throws UsmLiteError as {@link recognizeFile}
 */
export async function recognizeLive(blocks: AsyncIterable<Float32Array>, recording: Recording): Promise<RecognizedSpeech> {
  const { recognizer, batcher, windows, options, signal, onPartial } = recording;
  if (windows) return recognizeWindows(blocks, { ...recording, windows }, { window: allowed.partial, last: allowed.last, expected: false });
  using decoding = recognizer.decoding(options);
  const features = recognizer.featureChunks();
  using partial = onPartial && new PartialRecognition(recognizer, options);
  const settings = recognizer.forwardSettings(options);
  const forward = (chunk: FeatureChunk, milliseconds: number): Promise<Chunk> =>
    batcher.forward({ ...chunk, ...settings }, { deadline: performance.now() + milliseconds, signal, expected: false });
  for await (const block of blocks) {
    for (const chunk of features.push(block)) decoding.push(await forward(chunk, allowed.partial));
    const chunk = partial?.push(block);
    if (chunk) onPartial?.((partial as PartialRecognition).advance(await forward(chunk, allowed.partial)));
  }
  decoding.push(await forward(features.finish(), allowed.last));
  return decoding.finish(features.samples);
}
