/**
 * Beam search for transducers, frame by frame: the probabilities of all alignments of a token sequence within the beam are summed, as in
 * Graves 2012, and a duration may take a hypothesis several frames ahead. Language models and hotwords add to the score of a
 * sequence (shallow fusion).
 */
import { UsmLiteError } from "../errors.js";
import type { Prediction } from "../nn/prediction_network.js";
import type { DecodedToken } from "./hypothesis.js";
import { logAdd } from "./log_probabilities.js";
import { combineScorers, type PrefixScorer, type PrefixState } from "./prefix_scorer.js";
import { floatInput, HeardFrames, logSumExp, type TransducerInput, type TransducerScorer } from "./transducer.js";

export interface TransducerBeamOptions {
  /** Hypotheses kept at each frame, and tokens tried for each of them; default 8. */
  readonly beamWidth?: number;
  /** Hypotheses this far (in nats) below the best are dropped; default 14. */
  readonly beamThreshold?: number;
  readonly scorers?: readonly PrefixScorer[];
  /** Ids that are no text. Default: the blank alone. */
  readonly isSpecial?: (id: number) => boolean;
}

export interface TransducerHypothesis {
  /** As on the most probable alignment. */
  readonly tokens: readonly DecodedToken[];
  /** Natural logarithm of the probability of all alignments within the beam. */
  readonly logProbability: number;
  /** What hypotheses are ranked by: `logProbability` plus what the scorers add. */
  readonly score: number;
}

/** A sequence of tokens: hypotheses with the same one are the same. */
class Sequence {
  private readonly followers = new Map<number, Sequence>();

  follower(id: number): Sequence {
    let sequence = this.followers.get(id);
    if (!sequence) this.followers.set(id, (sequence = new Sequence()));
    return sequence;
  }
}

/** When the tokens of a sequence are emitted, last token first. */
interface Alignment {
  readonly previous: Alignment | undefined;
  readonly token: DecodedToken;
}

interface Hypothesis {
  readonly sequence: Sequence;
  /** The most probable one. */
  readonly alignment: Alignment | undefined;
  readonly prediction: Prediction;
  readonly state: PrefixState;
  /** Natural logarithm of the probability of all alignments, and of the best. */
  readonly total: number;
  readonly best: number;
}

/** A token that follows a hypothesis, before its prediction is known. */
interface Extension {
  readonly from: Hypothesis;
  readonly id: number;
  readonly duration: number;
  readonly logProbability: number;
  /** Of the token alone. */
  readonly confidence: number;
  readonly state: PrefixState;
  readonly score: number;
}

export class TransducerBeamSearch {
  private readonly beamWidth: number;
  private readonly beamThreshold: number;
  private readonly scorer: PrefixScorer;
  private readonly isSpecial: (id: number) => boolean;
  private readonly heard = new HeardFrames();
  /** Hypotheses by the frame at which they go on. */
  private readonly waiting = new Map<number, Map<Sequence, Hypothesis>>();
  private frame = 0;

  /** @throws UsmLiteError INVALID_ARGUMENT for a beam without hypotheses */
  constructor(
    private readonly network: TransducerScorer,
    options: TransducerBeamOptions = {},
  ) {
    this.beamWidth = options.beamWidth ?? 8;
    this.beamThreshold = options.beamThreshold ?? 14;
    if (!(this.beamWidth >= 1)) throw new UsmLiteError("INVALID_ARGUMENT", `beamWidth must be at least 1, got ${this.beamWidth}`);
    this.scorer = combineScorers(options.scorers ?? []);
    this.isSpecial = options.isSpecial ?? (() => false);
    const [prediction] = network.predict([network.blankId], [undefined]);
    this.put(0, {
      sequence: new Sequence(),
      alignment: undefined,
      prediction: prediction as Prediction,
      state: this.scorer.start(),
      total: 0,
      best: 0,
    });
  }

  /** The next frames of the recording. */
  advance(input: TransducerInput): void {
    this.heard.push(floatInput(input));
    for (; this.frame < this.heard.end; this.frame++) this.step(this.frame);
  }

  /** The best token sequences if the recording ended here; at least one. The search can go on. */
  best(nBest = 1): TransducerHypothesis[] {
    const merged = new Map<Sequence, Hypothesis>();
    for (const hypotheses of this.waiting.values()) for (const hypothesis of hypotheses.values()) merge(merged, hypothesis);
    return [...merged.values()]
      .map(({ alignment, total, state }) => ({
        tokens: tokensOf(alignment),
        logProbability: total,
        score: total + this.scorer.finish(state),
      }))
      .sort((a, b) => b.score - a.score)
      .slice(0, nBest);
  }

  /** What every token sequence in the beam begins with: later input only ever adds to it. */
  settledTokens(): DecodedToken[] {
    const paths = [...this.waiting.values()].flatMap((hypotheses) => [...hypotheses.values()].map(({ alignment }) => tokensOf(alignment)));
    const [first = [], ...others] = paths;
    const count = first.findIndex(({ id }, index) => others.some((path) => path[index]?.id !== id));
    return count < 0 ? first : first.slice(0, count);
  }

  private step(frame: number): void {
    let active = this.pruned([...(this.waiting.get(frame)?.values() ?? [])]);
    this.waiting.delete(frame);
    for (let symbols = 0; active.length > 0; symbols++) {
      if (symbols >= this.network.maximumSymbolsPerFrame) {
        for (const hypothesis of active) this.put(frame + 1, hypothesis);
        return;
      }
      active = this.expand(frame, active);
    }
  }

  /** Lets each hypothesis go on; returns those that stay at this frame. */
  private expand(frame: number, active: readonly Hypothesis[]): Hypothesis[] {
    const { network } = this;
    const scores = network.scores(
      active.map(() => this.heard.frame(frame)),
      active.map(({ prediction }) => prediction),
    );
    const width = network.vocabularySize + network.durations.length;
    const extensions = active.flatMap((hypothesis, row) =>
      this.extensions(hypothesis, frame, scores.subarray(row * width, (row + 1) * width)),
    );
    extensions.sort((a, b) => b.score - a.score);
    const least = (extensions[0]?.score ?? 0) - this.beamThreshold;
    const kept = extensions.slice(0, this.beamWidth).filter(({ score }) => score >= least);
    if (kept.length === 0) return [];
    const predictions = network.predict(
      kept.map(({ id }) => id),
      kept.map(({ from }) => from.prediction),
    );
    const staying = new Map<Sequence, Hypothesis>();
    kept.forEach(({ from, id, duration, logProbability, confidence, state }, index) => {
      const token = { id, firstFrame: frame, endFrame: frame + Math.max(1, duration), confidence: Math.exp(confidence) };
      const hypothesis = {
        sequence: from.sequence.follower(id),
        alignment: { previous: from.alignment, token },
        prediction: predictions[index] as Prediction,
        state,
        total: from.total + logProbability,
        best: from.best + logProbability,
      };
      if (duration > 0) this.put(frame + duration, hypothesis);
      else merge(staying, hypothesis);
    });
    return [...staying.values()];
  }

  /** Sends the hypothesis on with a blank, and returns the tokens that may follow instead. */
  private extensions(hypothesis: Hypothesis, frame: number, scores: Float32Array): Extension[] {
    const { blankId, vocabularySize, durations } = this.network;
    const ids = scores.subarray(0, vocabularySize);
    const idSum = logSumExp(ids);
    if (Number.isNaN(idSum)) throw new UsmLiteError("BAD_CHECKPOINT", `the scores of frame ${frame} are not numbers`);
    const tail = scores.subarray(vocabularySize);
    const durationSum = durations.length > 0 ? logSumExp(tail) : 0;
    // RNN-T goes on by one frame after a blank and by none after a token.
    const goOn = durations.map((duration, index) => ({ duration, logProbability: (tail[index] as number) - durationSum }));
    const blank = (ids[blankId] as number) - idSum;
    for (const { duration, logProbability } of goOn.length > 0 ? goOn : [{ duration: 1, logProbability: 0 }]) {
      const added = blank + logProbability;
      this.put(frame + Math.max(1, duration), { ...hypothesis, total: hypothesis.total + added, best: hypothesis.best + added });
    }
    return this.likeliest(ids).flatMap((id) => {
      const confidence = (ids[id] as number) - idSum;
      const state = this.scorer.extend(hypothesis.state, id);
      return (goOn.length > 0 ? goOn : [{ duration: 0, logProbability: 0 }]).map(({ duration, logProbability }): Extension => {
        const added = confidence + logProbability;
        return { from: hypothesis, id, duration, logProbability: added, confidence, state, score: hypothesis.total + added + state.score };
      });
    });
  }

  /** The most probable tokens of a frame. */
  private likeliest(ids: Float32Array): number[] {
    const chosen: number[] = [];
    ids.forEach((score, id) => {
      if (id === this.network.blankId || this.isSpecial(id)) return;
      if (chosen.length === this.beamWidth && score <= (ids[chosen.at(-1) as number] as number)) return;
      const at = chosen.findIndex((other) => score > (ids[other] as number));
      chosen.splice(at < 0 ? chosen.length : at, 0, id);
      chosen.length = Math.min(chosen.length, this.beamWidth);
    });
    return chosen;
  }

  private put(frame: number, hypothesis: Hypothesis): void {
    let hypotheses = this.waiting.get(frame);
    if (!hypotheses) this.waiting.set(frame, (hypotheses = new Map<Sequence, Hypothesis>()));
    merge(hypotheses, hypothesis);
  }

  private pruned(hypotheses: Hypothesis[]): Hypothesis[] {
    const score = ({ total, state }: Hypothesis): number => total + state.score;
    hypotheses.sort((a, b) => score(b) - score(a));
    const [first] = hypotheses;
    return first ? hypotheses.slice(0, this.beamWidth).filter((hypothesis) => score(hypothesis) >= score(first) - this.beamThreshold) : [];
  }
}

/** Adds the alignments of a hypothesis to those of the same tokens. */
function merge(hypotheses: Map<Sequence, Hypothesis>, hypothesis: Hypothesis): void {
  const other = hypotheses.get(hypothesis.sequence);
  if (!other) {
    hypotheses.set(hypothesis.sequence, hypothesis);
    return;
  }
  const likelier = other.best >= hypothesis.best ? other : hypothesis;
  hypotheses.set(hypothesis.sequence, { ...likelier, total: logAdd(other.total, hypothesis.total) });
}

function tokensOf(alignment: Alignment | undefined): DecodedToken[] {
  const tokens: DecodedToken[] = [];
  for (let last = alignment; last; last = last.previous) tokens.push(last.token);
  return tokens.reverse();
}
