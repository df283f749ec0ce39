/**
 * Writing a token sequence with a sequence-to-sequence model: greedily, by sampling, or with a beam (Sutskever et al. 2014). What may be
 * written is up to a constraint, such as the rules of Whisper's times.
 */
import { UsmLiteError } from "../errors.js";
import type { DecoderMemory, DecoderSession } from "../nn/decoder_session.js";
import type { RandomStream } from "../ops/random_stream.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { bestIndex, logSumExp } from "./transducer.js";

/** A decoder with scores for the next token. */
export interface SequenceScorer {
  readonly vocabularySize: number;
  session(memory: DecoderMemory): DecoderSession;
  /** Scores of ids before softmax (tokens, vocabulary) for hidden rows (tokens, hidden). */
  scores(hidden: Tensor): Tensor;
}

/** Sets the scores of tokens that may not come next to -Infinity. @param written tokens after the prompt */
export type SequenceConstraint = (scores: Float32Array, written: readonly number[]) => void;

export interface SequenceSearchOptions {
  /** Comes before what is written; at least one token. */
  readonly prompt: readonly number[];
  /** Ends what is written. */
  readonly endId: number;
  /** Most tokens, prompt included. */
  readonly maximumLength: number;
  readonly constrain?: SequenceConstraint;
  /** Hypotheses kept; 1, the default, is greedy. */
  readonly beamWidth?: number;
  /** Above 0: tokens are drawn at this temperature (and there is no beam). */
  readonly sampling?: { readonly temperature: number; readonly random: RandomStream } | undefined;
}

export interface WrittenSequence {
  /** Without prompt and end. */
  readonly tokens: readonly number[];
  /** Natural logarithm of the probability of each, before constraints. */
  readonly logProbabilities: readonly number[];
  /** Sum of the above and of the end's. */
  readonly logProbability: number;
  /** Scores of the first token after the prompt, before constraints and softmax. */
  readonly firstScores: Float32Array;
}

interface ExtensionOptions extends Pick<SequenceSearchOptions, "endId" | "sampling"> {
  readonly constrain: SequenceConstraint | undefined;
  readonly width: number;
}

interface Hypothesis {
  readonly tokens: readonly number[];
  readonly logProbabilities: readonly number[];
  /** Of tokens as constraints leave them: what hypotheses are ranked by. */
  readonly score: number;
  readonly rows: readonly number[];
  readonly ended: boolean;
}

/**
 * Writes about one item of `memory`.
 * @throws UsmLiteError BAD_CHECKPOINT when scores are not numbers
 */
export function writeSequence(
  network: SequenceScorer,
  memory: DecoderMemory,
  item: number,
  options: SequenceSearchOptions,
): WrittenSequence {
  const { prompt, endId, maximumLength, constrain, sampling } = options;
  const width = sampling ? 1 : (options.beamWidth ?? 1);
  using session = network.session(memory);
  let firstScores = new Float32Array(0);
  let beam: Hypothesis[] = [{ tokens: [], logProbabilities: [], score: 0, rows: [], ended: false }];
  let finished: Hypothesis[] = [];
  for (let length = prompt.length; length < maximumLength; length++) {
    const steps = beam.map(({ rows, tokens }) => ({ past: rows, tokens: rows.length === 0 ? prompt : tokens.slice(-1), item }));
    const { scores, rows } = lastScores(network, session, steps);
    if (firstScores.length === 0) firstScores = scores[0]?.slice() as Float32Array<ArrayBuffer>;
    const candidates = beam.flatMap((hypothesis, index) =>
      extensions(hypothesis, scores[index] as Float32Array, rows[index] as number[], { constrain, sampling, endId, width }),
    );
    candidates.sort((a, b) => b.score - a.score);
    finished = finished.concat(candidates.slice(0, width).filter(({ ended }) => ended));
    beam = candidates.filter(({ ended }) => !ended).slice(0, width);
    // As many finished hypotheses as the beam is wide: none that goes on is waited for.
    if (finished.length >= width || beam.length === 0) break;
  }
  const [best] = (finished.length > 0 ? finished : beam).sort((a, b) => meanScore(b) - meanScore(a));
  const { tokens, logProbabilities, ended } = best as Hypothesis;
  const logProbability = logProbabilities.reduce((sum, value) => sum + value, 0);
  return ended
    ? { tokens: tokens.slice(0, -1), logProbabilities: logProbabilities.slice(0, -1), logProbability, firstScores }
    : { tokens, logProbabilities, logProbability, firstScores };
}

/** Scores after the last of the new tokens of each sequence. */
function lastScores(
  network: SequenceScorer,
  session: DecoderSession,
  steps: Parameters<DecoderSession["advance"]>[0],
): { scores: Float32Array[]; rows: number[][] } {
  const { hidden, rows } = session.advance(steps);
  const scores = tidy(() => {
    let end = 0;
    return steps.map(({ tokens }) => {
      end += tokens.length;
      return network.scores(hidden.rows(end - 1, end)).toArray();
    });
  });
  hidden.dispose();
  return { scores, rows };
}

function extensions(
  { tokens, logProbabilities, score }: Hypothesis,
  scores: Float32Array,
  rows: readonly number[],
  { constrain, sampling, endId, width }: ExtensionOptions,
): Hypothesis[] {
  const before = logSumExp(scores);
  if (Number.isNaN(before)) throw new UsmLiteError("BAD_CHECKPOINT", `the scores of token ${tokens.length} are not numbers`);
  const unconstrained = constrain ? scores.slice() : scores;
  constrain?.(scores, tokens);
  const after = logSumExp(scores);
  const ids = sampling ? [draw(scores, sampling)] : width === 1 ? [bestIndex(scores)] : largest(scores, width + 1);
  return ids.map((id) => ({
    tokens: [...tokens, id],
    logProbabilities: [...logProbabilities, (unconstrained[id] as number) - before],
    score: score + (scores[id] as number) - after,
    rows,
    ended: id === endId,
  }));
}

/** A token drawn with probabilities proportional to e^(score / temperature). */
function draw(scores: Float32Array, { temperature, random }: NonNullable<SequenceSearchOptions["sampling"]>): number {
  const scaled = scores.map((value) => value / temperature);
  const total = logSumExp(scaled);
  let left = random.uniform();
  for (let id = 0; id < scaled.length; id++) {
    left -= Math.exp((scaled[id] as number) - total);
    if (left < 0) return id;
  }
  return bestIndex(scores);
}

/** Ids of the `count` largest scores, best first. */
function largest(scores: Float32Array, count: number): number[] {
  const ids: number[] = [];
  scores.forEach((score, id) => {
    if (score === -Infinity || (ids.length === count && score <= (scores[ids.at(-1) as number] as number))) return;
    const at = ids.findIndex((other) => score > (scores[other] as number));
    ids.splice(at < 0 ? ids.length : at, 0, id);
    ids.length = Math.min(ids.length, count);
  });
  return ids;
}

/** Hypotheses of different lengths are compared by the score of a token. */
const meanScore = ({ score, tokens }: Hypothesis): number => score / tokens.length;
