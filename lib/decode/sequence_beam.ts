/** The hypotheses of one sequence that is being written: one when it is written greedily or drawn, several in a beam (Sutskever et al. 2014). */
import { UsmLiteError } from "../errors.js";
import type { SequenceStep } from "../nn/decoder_session.js";
import type { Outcome } from "../outcome.js";
import type { TokenChoice } from "../ops/token_choice.js";
import type { Sampling } from "./token_sampling.js";

export interface SequenceRequest {
  /** Of the decoder's memory: what the sequence is about. */
  readonly item: number;
  /** Comes before what is written; at least one token. */
  readonly prompt: readonly number[];
  /** Ends what is written. */
  readonly endId: number;
  /** Most tokens, prompt included. */
  readonly maximumLength: number;
  /** Hypotheses kept; 1, the default, is greedy. */
  readonly beamWidth?: number;
  /** Tokens are drawn, and there is no beam. */
  readonly sampling?: Sampling | undefined;
  /** Asked before each token: whether nobody wants the sequence any more. */
  readonly isAborted?: (() => boolean) | undefined;
}

export interface WrittenSequence {
  /** Without prompt and end. */
  readonly tokens: readonly number[];
  /** Natural logarithm of the probability of each among all tokens. */
  readonly logProbabilities: readonly number[];
  /** Sum of the above and of the end's. */
  readonly logProbability: number;
}

interface Hypothesis {
  readonly tokens: readonly number[];
  readonly logProbabilities: readonly number[];
  /** Of tokens among those that might come: what hypotheses are ranked by. */
  readonly score: number;
  /** Of the decoder's cache. */
  readonly rows: readonly number[];
  readonly ended: boolean;
}

export class SequenceBeam {
  /** Hypotheses that may go on. */
  private going: readonly Hypothesis[] = [{ tokens: [], logProbabilities: [], score: 0, rows: [], ended: false }];
  private finished: readonly Hypothesis[] = [];
  /** Why it cannot be written. */
  private failure: UsmLiteError | undefined;
  private readonly width: number;

  constructor(readonly request: SequenceRequest) {
    this.width = request.sampling ? 1 : (request.beamWidth ?? 1);
  }

  /**
   * Whether another token is to be written: not once as many hypotheses are finished as the beam is wide, since none that goes on is waited
   * for, nor where it cannot be written, or is not wanted any more.
   */
  goesOn(): boolean {
    if (this.failure) return false;
    const { prompt, maximumLength, isAborted } = this.request;
    const [first] = this.going;
    if (!first || this.finished.length >= this.width || prompt.length + first.tokens.length >= maximumLength) return false;
    if (isAborted?.()) this.failure = new UsmLiteError("ABORTED", "the sequence was given up");
    return this.failure === undefined;
  }

  /** Tokens that each hypothesis can be told apart by: one may be the end. */
  get choices(): number {
    return this.width === 1 ? 1 : this.width + 1;
  }

  /** The newest tokens of each hypothesis, for the decoder. */
  steps(): SequenceStep[] {
    const { prompt, item } = this.request;
    return this.going.map(({ rows, tokens }) => ({ past: rows, tokens: rows.length === 0 ? prompt : tokens.slice(-1), item }));
  }

  /** What was written of each hypothesis, in the order of {@link SequenceBeam.steps}. */
  written(): (readonly number[])[] {
    return this.going.map(({ tokens }) => tokens);
  }

  /**
   * @param choices the likeliest tokens after each hypothesis
   * @param rows of the cache that each consists of now
   */
  advance(choices: readonly (readonly TokenChoice[])[], rows: readonly (readonly number[])[]): void {
    this.failure = this.problemOf(choices.flat());
    if (this.failure) return;
    const candidates = this.going.flatMap((hypothesis, index) =>
      (choices[index] as readonly TokenChoice[]).map((choice) => this.extended(hypothesis, choice, rows[index] as readonly number[])),
    );
    candidates.sort((a, b) => b.score - a.score);
    const ended = candidates.slice(0, this.width).filter((candidate) => candidate.ended);
    this.finished = [...this.finished, ...ended];
    this.going = candidates.filter((candidate) => !candidate.ended).slice(0, this.width);
  }

  /**
   * Hypotheses of different lengths are compared by the score of a token. BAD_CHECKPOINT when scores are not numbers, or no token may come;
   * ABORTED.
   */
  best(): Outcome<WrittenSequence> {
    if (this.failure) return this.failure;
    const hypotheses = this.finished.length > 0 ? this.finished : this.going;
    const meanScore = ({ score, tokens }: Hypothesis): number => score / tokens.length;
    const [best] = [...hypotheses].sort((a, b) => meanScore(b) - meanScore(a));
    const { tokens, logProbabilities, ended } = best as Hypothesis;
    const kept = ended ? -1 : tokens.length;
    return {
      tokens: tokens.slice(0, kept),
      logProbabilities: logProbabilities.slice(0, kept),
      logProbability: logProbabilities.reduce((sum, value) => sum + value, 0),
    };
  }

  private problemOf(choices: readonly TokenChoice[]): UsmLiteError | undefined {
    if (choices.length === 0) return new UsmLiteError("BAD_CHECKPOINT", "no token of the vocabulary may follow what was written");
    if (choices.every(({ logProbability }) => !Number.isNaN(logProbability))) return undefined;
    return new UsmLiteError("BAD_CHECKPOINT", `the scores of token ${(this.going[0] as Hypothesis).tokens.length} are not numbers`);
  }

  private extended({ tokens, logProbabilities, score }: Hypothesis, choice: TokenChoice, rows: readonly number[]): Hypothesis {
    const { id, logProbability, allowedLogProbability } = choice;
    return {
      tokens: [...tokens, id],
      logProbabilities: [...logProbabilities, logProbability],
      score: score + allowedLogProbability,
      rows,
      ended: id === this.request.endId,
    };
  }
}
