/** The most probable token of every frame, repeats merged and blanks removed (Graves et al. 2006, best path decoding). */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { hypothesisOf, settledTextOf, type DecodedToken, type FrameTimes, type Hypothesis, type LogProbabilities } from "./hypothesis.js";
import { checkLogProbabilities } from "./log_probabilities.js";

/**
 * Greedy decoding of a CTC head (Graves et al. 2006): the best token of each frame, repetitions merged, blanks left out.
 * @throws UsmLiteError INVALID_ARGUMENT when the sizes do not fit the tokenizer
 *
 * @example
 * const tokenizer = Tokenizer.load("packed");
 * const texts = recognizer.logProbabilities([samples]).map((frames) => ctcGreedy(frames, tokenizer, { secondsPerFrame: 0.04 }).text);
 */
export function ctcGreedy(input: LogProbabilities, tokenizer: Tokenizer, times: FrameTimes): Hypothesis {
  const search = new CtcGreedySearch(tokenizer, times);
  search.advance(input);
  return search.best()[0];
}

/** Greedy decoding that takes its input piece by piece. */
export class CtcGreedySearch {
  private readonly tokens: { -readonly [Key in keyof DecodedToken]: DecodedToken[Key] }[] = [];
  private previous: number;
  private logProbability = 0;
  private frame = 0;

  constructor(
    protected readonly tokenizer: Tokenizer,
    private readonly times: FrameTimes,
  ) {
    this.previous = tokenizer.blankId;
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when the sizes do not fit the tokenizer */
  advance(input: LogProbabilities): void {
    checkLogProbabilities(input, this.tokenizer);
    const { values, frames, tokens: width } = input;
    for (let row = 0; row < frames * width; row += width) {
      let best = 0;
      for (let id = 1; id < width; id++) {
        if ((values[row + id] as number) > (values[row + best] as number)) best = id;
      }
      this.step(best, values[row + best] as number);
    }
  }

  /** The text if the utterance ended here; the search can go on afterwards. An array of one, as a beam search's. */
  best(): [Hypothesis] {
    const tokens = this.tokens.map((token) => ({ ...token }));
    return [hypothesisOf(tokens, this.logProbability, this.tokenizer, this.times)];
  }

  /** The text so far, which later input only ever adds to. */
  settledText(): string {
    return settledTextOf(
      this.tokens.map(({ id }) => id),
      this.tokenizer,
    );
  }

  /** The next frame's best token, and the logarithm of its probability. */
  protected step(id: number, score: number): void {
    const { previous } = this;
    const frame = this.frame++;
    this.logProbability += score;
    this.previous = id;
    if (id === this.tokenizer.blankId) return;
    const open = this.tokens.at(-1);
    if (id === previous && open) {
      open.endFrame = frame + 1;
      open.confidence = Math.max(open.confidence, Math.exp(score));
    } else {
      this.tokens.push({ id, firstFrame: frame, endFrame: frame + 1, confidence: Math.exp(score) });
    }
  }
}

/** Columns of what {@link CtcBestPathSearch} takes, in place of one for each token. */
export const bestPath = { columns: 3, id: 0, score: 1, blankScore: 2 } as const;

/** The same of frames whose best tokens were found elsewhere: rows of {@link bestPath}. */
export class CtcBestPathSearch extends CtcGreedySearch {
  /** @throws UsmLiteError INVALID_ARGUMENT for rows of another width, or an id that is no token's */
  override advance({ values, frames, tokens }: LogProbabilities): void {
    if (tokens !== bestPath.columns || values.length !== frames * tokens) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `(${frames}, ${tokens}) numbers, got ${values.length}, are no best path: it has ${bestPath.columns} for each frame`,
      );
    }
    for (let row = 0; row < values.length; row += tokens) {
      const id = values[row + bestPath.id] as number;
      if (!(id >= 0 && id < this.tokenizer.size)) {
        throw new UsmLiteError(
          "INVALID_ARGUMENT",
          `the best path has token ${id} but the tokenizer has ${this.tokenizer.size}; use the tokenizer of the model`,
        );
      }
      this.step(id, values[row + bestPath.score] as number);
    }
  }
}
