import test from "ava";
import { writeSequence, type SequenceScorer } from "../lib/decode/sequence_search.js";
import { timestampConstraint } from "../lib/decode/timestamp_rules.js";
import { Tensor } from "../lib/operations.js";
import type { DecoderMemory, DecoderSession } from "../lib/nn/decoder_session.js";
import { RandomStream } from "../lib/ops/random_stream.js";

test("times follow Whisper's rules", (t) => {
  // 0..9 text, 8 the end, 10 no times, 11.. times.
  const constrain = timestampConstraint({ noTimestampsId: 10, endId: 8, latestFirstTime: 2 });
  const allowed = (written: number[], scores: Float32Array = new Float32Array(20)): number[] => {
    constrain(scores, written);
    return [...scores.keys()].filter((id) => scores[id] !== -Infinity);
  };
  const text = (value: number): Float32Array => Float32Array.from({ length: 20 }, (_, id) => (id < 10 ? value : 0));
  t.deepEqual(allowed([]), [11, 12, 13], "a time begins, and not a late one");
  t.deepEqual(allowed([12], text(9)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "text follows the first time");
  t.deepEqual(allowed([12, 3], text(9)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 18, 19], "times only go on");
  t.deepEqual(
    allowed([12, 3, 15], text(9)),
    [8, 9, 15, 16, 17, 18, 19],
    "the end of a segment is followed by a beginning or the end of all",
  );
  t.deepEqual(allowed([12, 3, 15, 15], text(9)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "after a pair comes text");
  t.deepEqual(allowed([12, 3]), [13, 14, 15, 16, 17, 18, 19], "seven times together are likelier than any text");
});

/** Scores that depend on the last token alone. */
function tableNetwork(table: Record<number, number[]>): SequenceScorer {
  let used = 0;
  const session = {
    advance: (steps: readonly { past: readonly number[]; tokens: readonly number[] }[]) => {
      const rows = steps.map(({ past, tokens }) => [...past, ...tokens.map(() => used++)]);
      const hidden = Tensor.from(
        steps.flatMap(({ tokens }) => tokens),
        [steps.reduce((sum, { tokens }) => sum + tokens.length, 0), 1],
      );
      return { hidden, rows };
    },
    [Symbol.dispose]: () => undefined,
  };
  return {
    vocabularySize: 4,
    session: () => session as unknown as DecoderSession,
    scores: (hidden) => Tensor.from((table[hidden.toArray()[0] as number] as number[]).map(Math.log), [1, 4]),
  };
}

test("a beam finds what greedy search misses; sampling follows the probabilities", (t) => {
  // From 0: 1 is likelier, but then everything is unsure; 2 is followed by the end (3) for certain.
  const network = tableNetwork({ 0: [0, 0.6, 0.4, 0], 1: [0.34, 0.33, 0.33, 0], 2: [0, 0, 0, 1] });
  const options = { prompt: [0], endId: 3, maximumLength: 4 };
  const memory = {} as DecoderMemory;
  t.is(writeSequence(network, memory, 0, options).tokens[0], 1);
  const beam = writeSequence(network, memory, 0, { ...options, beamWidth: 2 });
  t.deepEqual(beam.tokens, [2]);
  t.true(Math.abs(beam.logProbability - Math.log(0.4)) < 1e-6);
  const random = new RandomStream(4);
  const firsts = Array.from(
    { length: 400 },
    () => writeSequence(network, memory, 0, { ...options, sampling: { temperature: 1, random } }).tokens[0],
  );
  const share = firsts.filter((id) => id === 1).length / 400;
  t.true(Math.abs(share - 0.6) < 0.1, `${share}`);
  const forbidden = writeSequence(network, memory, 0, { ...options, constrain: (scores) => scores.fill(-Infinity, 1, 2) });
  t.deepEqual(forbidden.tokens, [2]);
  t.true(Math.abs((forbidden.logProbabilities[0] as number) - Math.log(0.4)) < 1e-6, "probabilities are those before the constraint");
});
