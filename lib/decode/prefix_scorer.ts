/** What can be added to the acoustic score of a prefix while searching: language models, hotwords. */

/** A scorer's view of one prefix. Immutable: many prefixes grow out of one. */
export interface PrefixState {
  /** Everything the scorer adds to the natural logarithm of the prefix's acoustic probability so far. */
  readonly score: number;
}

export interface PrefixScorer<State extends PrefixState = PrefixState> {
  /** Before the first token. */
  start(): State;
  /** After one more token; never called for the blank or special ids. */
  extend(state: State, id: number): State;
  /** What the score becomes when the utterance ends here. */
  finish(state: State): number;
}

interface CombinedState extends PrefixState {
  readonly parts: readonly PrefixState[];
}

/** Adds the scores of several scorers. */
export function combineScorers(scorers: readonly PrefixScorer[]): PrefixScorer {
  const [only] = scorers;
  if (only && scorers.length === 1) return only;
  const combined = (parts: readonly PrefixState[]): CombinedState => ({
    parts,
    score: parts.reduce((sum, { score }) => sum + score, 0),
  });
  const scorer: PrefixScorer<CombinedState> = {
    start: () => combined(scorers.map((part) => part.start())),
    extend: ({ parts }, id) => combined(scorers.map((part, i) => part.extend(parts[i] as PrefixState, id))),
    finish: ({ parts }) => scorers.reduce((sum, part, i) => sum + part.finish(parts[i] as PrefixState), 0),
  };
  return scorer;
}
