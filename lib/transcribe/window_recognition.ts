/** Recordings through a model that decodes windows: those of different recordings that wait at the same time share passes. */
import type { RecognizedSpeech } from "./decoding.js";
import type { ForwardBatcher, ForwardOptions } from "./forward_batcher.js";
import type { Recognizer } from "./recognizer.js";
import type { Recording } from "./recording.js";
import type { DecodedWindow, Window, WindowDecoder } from "./window_decoding.js";
import type { WindowSearch, WindowSteps } from "./window_search.js";

/** Recordings whose samples are all there. @param beforePass is called before each pass and ends the work by throwing */
export function transcribeWindows(
  recognizer: Recognizer,
  decoder: WindowDecoder,
  recordings: readonly { readonly samples: Float32Array; readonly search: WindowSearch }[],
  beforePass: () => void,
): RecognizedSpeech[] {
  const steps = recordings.map(function* ({ samples, search }): WindowSteps {
    yield* search.push(samples);
    yield* search.finish();
  });
  decodeTogether(steps, decoder, beforePass);
  return recordings.map(({ samples, search }) => recognizer.recognized(search.hypothesis(), samples.length));
}

/** One recording whose samples arrive in blocks. */
export async function transcribeWindowStream(
  recognizer: Recognizer,
  decoder: WindowDecoder,
  blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  beforePass: () => void,
): Promise<RecognizedSpeech> {
  const search = recognizer.windowSearch();
  let samples = 0;
  for await (const block of blocks) {
    samples += block.length;
    decodeTogether([search.push(block)], decoder, beforePass);
  }
  decodeTogether([search.finish()], decoder, beforePass);
  return recognizer.recognized(search.hypothesis(), samples);
}

/** Answers the windows of several recordings. */
function decodeTogether(recordings: readonly WindowSteps[], decoder: WindowDecoder, beforePass: () => void): void {
  let waiting = recordings.map((steps) => ({ steps, step: steps.next() }));
  while ((waiting = waiting.filter(({ step }) => !step.done)).length > 0) {
    beforePass();
    const decoded = decoder.forward(waiting.map(({ step }) => step.value as Window));
    waiting = waiting.map(({ steps }, index) => ({ steps, step: steps.next(decoded[index] as DecodedWindow) }));
  }
}

/**
 * A recording that shares passes with others that are recognized at the same time.
 * @param milliseconds until a window, and the last one, should have been decoded
 * @throws UsmLiteError ABORTED, and whatever reading `blocks` throws
 */
export async function recognizeWindows(
  blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  { recognizer, windows, options, signal, isAborted, onPartial }: Recording & { readonly windows: ForwardBatcher<Window, DecodedWindow> },
  { window, last, expected }: { readonly window: number; readonly last: number; readonly expected: boolean },
): Promise<RecognizedSpeech> {
  const search = recognizer.windowSearch(options);
  const { samplingRate } = recognizer.model.frontEnd.config;
  let samples = 0;
  const decode = async (steps: WindowSteps, milliseconds: number): Promise<void> => {
    const settings = (): ForwardOptions => ({ deadline: performance.now() + milliseconds, signal, expected });
    for (let step = steps.next(); !step.done;) step = steps.next(await windows.forward({ ...step.value, isAborted }, settings()));
  };
  if (expected) windows.join();
  try {
    for await (const block of blocks) {
      const { settledSeconds } = search;
      samples += block.length;
      await decode(search.push(block), window);
      if (search.settledSeconds > settledSeconds) {
        onPartial?.({ text: search.settledText(), settledSeconds: search.settledSeconds, heardSeconds: samples / samplingRate });
      }
    }
    await decode(search.finish(), last);
  } finally {
    if (expected) windows.leave();
  }
  return recognizer.recognized(search.hypothesis(), samples);
}
