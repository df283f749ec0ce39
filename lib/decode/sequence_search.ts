/**
 * Writing token sequences with a sequence-to-sequence model, several at once: greedily, by sampling, or with a beam (Sutskever et al.
 * 2014). What may be written is up to rules, such as those of Whisper's times.
 */
import type { DecoderMemory, DecoderSession, SequenceStep } from "../nn/decoder_session.js";
import { outputsOf, type Outcome } from "../outcome.js";
import { gatherRows } from "../ops/row_copies.js";
import { chooseTokens, ExcludedTokens, type AllowedTokens, type TokenChoice } from "../ops/token_choice.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { SequenceBeam, type SequenceRequest, type WrittenSequence } from "./sequence_beam.js";
import { drawToken } from "./token_sampling.js";

/** A decoder with scores for the next token. */
export interface SequenceScorer {
  readonly vocabularySize: number;
  session(memory: DecoderMemory): DecoderSession;
  /** Scores of ids before softmax (tokens, vocabulary) for hidden rows (tokens, hidden). */
  scores(hidden: Tensor): Tensor;
}

/** What may be written. */
export interface SequenceRules {
  readonly excluded: ExcludedTokens;
  /** @param written tokens after the prompt */
  allowed(written: readonly number[]): AllowedTokens;
}

/**
 * Writes sequences about items of the session's memory, which take their steps together; what one gives does not depend on the others.
 * @param session forgets what it has seen
 * @throws UsmLiteError BAD_CHECKPOINT when scores are not numbers
 */
export function writeSequences(
  network: Pick<SequenceScorer, "vocabularySize" | "scores">,
  session: DecoderSession,
  requests: readonly SequenceRequest[],
  rules: SequenceRules = anyTokens(network),
): WrittenSequence[] {
  return outputsOf(writeEach(network, session, requests, rules));
}

/** {@link writeSequences}, with the error of each sequence that cannot be written. */
export function writeEach(
  network: Pick<SequenceScorer, "vocabularySize" | "scores">,
  session: DecoderSession,
  requests: readonly SequenceRequest[],
  rules: SequenceRules,
): Outcome<WrittenSequence>[] {
  session.clear();
  const beams = requests.map((request) => new SequenceBeam(request));
  for (let going = beams; (going = going.filter((beam) => beam.goesOn())).length > 0;) {
    const steps = going.map((beam) => beam.steps());
    const { hidden, rows } = session.advance(steps.flat());
    const choices = tidy(() => chosen(network.scores(lastRows(hidden, steps.flat())), going, rules));
    hidden.dispose();
    let first = 0;
    going.forEach((beam, index) => {
      const end = first + (steps[index] as SequenceStep[]).length;
      beam.advance(choices.slice(first, end), rows.slice(first, end));
      first = end;
    });
  }
  return beams.map((beam) => beam.best());
}

function anyTokens({ vocabularySize }: Pick<SequenceScorer, "vocabularySize">): SequenceRules {
  return { excluded: new ExcludedTokens(vocabularySize, [[]]), allowed: () => ({ without: 0, forbidden: [] }) };
}

/** Of the rows of new tokens those after which a token is to come: the last one of each step. */
function lastRows(hidden: Tensor, steps: readonly SequenceStep[]): Tensor {
  if (steps.every(({ tokens }) => tokens.length === 1)) return hidden;
  let end = 0;
  return gatherRows(
    hidden,
    steps.map(({ tokens }) => (end += tokens.length) - 1),
  );
}

/** @param scores (hypotheses of all beams, vocabulary) @returns what may follow each hypothesis, likeliest first, or what was drawn */
function chosen(scores: Tensor, beams: readonly SequenceBeam[], { excluded, allowed }: SequenceRules): TokenChoice[][] {
  const hypotheses = beams.flatMap((beam) => beam.written().map((written) => ({ beam, allowed: allowed(written) })));
  const choices = chooseTokens(
    scores,
    excluded,
    hypotheses.map((hypothesis) => hypothesis.allowed),
    Math.max(...beams.map((beam) => beam.choices)),
  );
  return hypotheses.map(({ beam, allowed }, row) => {
    const { sampling } = beam.request;
    if (!sampling) return (choices[row] as TokenChoice[]).slice(0, beam.choices);
    return [drawToken(scores.rows(row, row + 1).toArray(), excluded, allowed, sampling)];
  });
}
