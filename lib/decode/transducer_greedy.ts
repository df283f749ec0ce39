/**
 * Greedy decoding of transducers (Graves 2012; token-and-duration transducers: Xu et al. 2023), several utterances in step: each step
 * takes the best token of every utterance that has frames left. What one utterance gives does not depend on the others.
 */
import { UsmLiteError } from "../errors.js";
import type { TransducerDecoder } from "../device/transducer_decoder.js";
import type { TransducerState } from "../device/transducer_state.js";
import type { Prediction } from "../nn/prediction_network.js";
import { tidy } from "../tensor/scope.js";
import type { DecodedToken } from "./hypothesis.js";
import { bestIndex, floatInput, HeardFrames, logSumExp, type TransducerInput, type TransducerScorer } from "./transducer.js";

export interface TransducerPath {
  readonly tokens: readonly DecodedToken[];
  /** Every step, blanks included, with its duration in frames: what transformers' `generate` returns after the start token. */
  readonly steps: readonly { readonly id: number; readonly duration: number }[];
  /** Natural logarithm of the probability of the tokens and blanks taken, durations not included. */
  readonly logProbability: number;
}

/** Takes the frames of utterances piece by piece. Where it decodes on the GPU, what it knows stays there until it is disposed of. */
export class TransducerGreedySearch implements Disposable {
  private readonly tokens: DecodedToken[] = [];
  private readonly steps: { id: number; duration: number }[] = [];
  private logProbability = 0;
  /** On the CPU. */
  private prediction: Prediction | undefined;
  /** On the GPU. */
  private state: TransducerState | undefined;
  /** Of the recording; may lie beyond what has been heard. */
  private frame = 0;
  private symbolsAtFrame = 0;
  private readonly heard = new HeardFrames();

  /** @param tooLarge the error for scores that are not numbers, of which it is told which ones */
  constructor(
    private readonly network: TransducerScorer,
    private readonly tooLarge = (what: string): UsmLiteError => new UsmLiteError("BAD_CHECKPOINT", what),
  ) {}

  /** The next frames of each of several utterances; the searches advance together. */
  static advance(searches: readonly TransducerGreedySearch[], inputs: readonly TransducerInput[]): void {
    const decoder = searches[0]?.network.decoderOnGpu;
    searches.forEach((search, index) => {
      const input = inputs[index] as TransducerInput;
      search.heard.push(decoder ? input : floatInput(input));
    });
    const waiting = searches.filter((search) => search.hasFrames);
    if (decoder) return tidy(() => TransducerGreedySearch.advanceOnGpu(waiting, decoder));
    if (waiting.some(({ state }) => state !== undefined))
      throw new UsmLiteError("INTERNAL", "a search that began on the GPU has to go on there: what it knows is there");
    for (let running = waiting; running.length > 0; running = running.filter((search) => search.hasFrames)) {
      const { network } = running[0] as TransducerGreedySearch;
      const fresh = running.filter(({ prediction }) => prediction === undefined);
      if (fresh.length > 0) {
        const started = network.predict(
          fresh.map(() => network.blankId),
          fresh.map(() => undefined),
        );
        fresh.forEach((search, index) => (search.prediction = started[index]));
      }
      const scores = network.scores(
        running.map((search) => search.heard.frame(search.frame)),
        running.map(({ prediction }) => prediction as Prediction),
      );
      const width = network.vocabularySize + network.durations.length;
      running.forEach((search, row) => search.step(scores.subarray(row * width, (row + 1) * width)));
      const said = running.filter((search) => search.last !== network.blankId);
      if (said.length === 0) continue;
      const predictions = network.predict(
        said.map(({ last }) => last),
        said.map(({ prediction }) => prediction),
      );
      said.forEach((search, index) => (search.prediction = predictions[index]));
    }
  }

  private static advanceOnGpu(searches: readonly TransducerGreedySearch[], decoder: TransducerDecoder): void {
    const parts = searches.map(({ heard, frame, state, prediction, symbolsAtFrame }) => ({
      frames: heard.from(frame),
      state: state ?? prediction?.state,
      symbolsAtFrame,
    }));
    const states = decoder.decode(parts, (index, { id, duration, logProbability }) =>
      (searches[index] as TransducerGreedySearch).take(id, duration, logProbability),
    );
    searches.forEach((search, index) => {
      search.state?.dispose();
      search.state = states[index];
    });
  }

  /** Gives back what it keeps on the GPU; the path stays. */
  dispose(): void {
    this.state?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What was said if the recording ended here; the search can go on. */
  path(): TransducerPath {
    return { tokens: [...this.tokens], steps: [...this.steps], logProbability: this.logProbability };
  }

  private get last(): number {
    return (this.steps.at(-1) as { id: number }).id;
  }

  private get hasFrames(): boolean {
    return this.frame < this.heard.end;
  }

  private step(scores: Float32Array): void {
    const { vocabularySize, durations } = this.network;
    const ids = scores.subarray(0, vocabularySize);
    const id = bestIndex(ids);
    const logProbability = (ids[id] as number) - logSumExp(ids);
    this.take(id, durations.length > 0 ? (durations[bestIndex(scores.subarray(vocabularySize))] as number) : 0, logProbability);
  }

  /** The best id at this frame, and how far the network would go on. */
  private take(id: number, duration: number, logProbability: number): void {
    const { blankId, maximumSymbolsPerFrame } = this.network;
    if (!Number.isFinite(logProbability)) throw this.tooLarge(`the scores of frame ${this.frame} are not numbers`);
    this.logProbability += logProbability;
    if (id === blankId) {
      duration = Math.max(1, duration);
    } else {
      this.tokens.push({ id, firstFrame: this.frame, endFrame: this.frame + Math.max(1, duration), confidence: Math.exp(logProbability) });
    }
    // As in NeMo; transformers lets a token-and-duration transducer stay at a frame for as long as it likes.
    this.symbolsAtFrame = duration > 0 ? 0 : this.symbolsAtFrame + 1;
    if (this.symbolsAtFrame >= maximumSymbolsPerFrame) [duration, this.symbolsAtFrame] = [1, 0];
    this.steps.push({ id, duration });
    this.frame += duration;
  }
}

/** Decodes whole utterances. */
export function transducerGreedy(network: TransducerScorer, inputs: readonly TransducerInput[]): TransducerPath[] {
  const searches = inputs.map(() => new TransducerGreedySearch(network));
  try {
    TransducerGreedySearch.advance(searches, inputs);
    return searches.map((search) => search.path());
  } finally {
    for (const search of searches) search.dispose();
  }
}
