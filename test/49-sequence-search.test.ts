import test from "ava";
import type { SequenceRequest } from "../lib/decode/sequence_beam.js";
import { writeSequences, type SequenceRules, type SequenceScorer } from "../lib/decode/sequence_search.js";
import { timesAllowed } from "../lib/decode/timestamp_rules.js";
import { Tensor } from "../lib/operations.js";
import type { DecoderSession } from "../lib/nn/decoder_session.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { chooseTokens, ExcludedTokens } from "../lib/ops/token_choice.js";

test("times follow Whisper's rules", (t) => {
  // 0..9 text, 8 the end, 10 no times, 11.. times.
  const rules = { noTimestampsId: 10, endId: 8, latestFirstTime: 2 };
  using excluded = new ExcludedTokens(20, [[rules.noTimestampsId]]);
  const allowed = (written: number[], scores: Float32Array = new Float32Array(20)): number[] => {
    const [choices] = chooseTokens(Tensor.from(scores, [1, 20]), excluded, [{ without: 0, ...timesAllowed(written, rules) }], 20);
    return (choices ?? []).map(({ id }) => id).sort((a, b) => a - b);
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
function tableNetwork(table: Record<number, number[]>): Pick<SequenceScorer, "vocabularySize" | "scores"> & { session: DecoderSession } {
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
    clear: () => (used = 0),
  };
  return {
    vocabularySize: 4,
    session: session as unknown as DecoderSession,
    scores: (hidden) =>
      Tensor.from(
        [...hidden.toArray()].flatMap((token) => (table[token] as number[]).map(Math.log)),
        [hidden.dim(0), 4],
      ),
  };
}

test("a beam finds what greedy search misses; sampling follows the probabilities", (t) => {
  // From 0: 1 is likelier, but then everything is unsure; 2 is followed by the end (3) for certain.
  const network = tableNetwork({ 0: [0, 0.6, 0.4, 0], 1: [0.34, 0.33, 0.33, 0], 2: [0, 0, 0, 1] });
  const request = { item: 0, prompt: [0], endId: 3, maximumLength: 4 };
  const write = (more: Partial<SequenceRequest> = {}, rules?: SequenceRules) => {
    const [written] = writeSequences(network, network.session, [{ ...request, ...more }], rules);
    return written as NonNullable<typeof written>;
  };
  t.is(write().tokens[0], 1);
  const beam = write({ beamWidth: 2 });
  t.deepEqual(beam.tokens, [2]);
  t.true(Math.abs(beam.logProbability - Math.log(0.4)) < 1e-6);
  const random = new RandomStream(4);
  const firsts = Array.from({ length: 400 }, () => write({ sampling: { temperature: 1, random } }).tokens[0]);
  const share = firsts.filter((id) => id === 1).length / 400;
  t.true(Math.abs(share - 0.6) < 0.1, `${share}`);
  using excluded = new ExcludedTokens(4, [[1]]);
  const without1 = write({}, { excluded, allowed: () => ({ without: 0, forbidden: [] }) });
  t.deepEqual(without1.tokens, [2]);
  t.true(Math.abs((without1.logProbabilities[0] as number) - Math.log(0.4)) < 1e-6, "probabilities are those among all tokens");
  t.throws(() => write({}, { excluded, allowed: () => ({ without: 0, forbidden: [[0, 4]] }) }), { code: "BAD_CHECKPOINT" });
});

test("sequences that are written together are what each is alone: greedy, drawn, in beams, of any prompt and length", (t) => {
  const network = tableNetwork({ 0: [0, 0.6, 0.4, 0], 1: [0.34, 0.33, 0.31, 0.02], 2: [0.3, 0.3, 0, 0.4] });
  const requests = (): SequenceRequest[] => [
    { item: 0, prompt: [0], endId: 3, maximumLength: 12 },
    { item: 0, prompt: [1, 2], endId: 3, maximumLength: 5, beamWidth: 3 },
    { item: 0, prompt: [2, 0, 1], endId: 3, maximumLength: 9, sampling: { temperature: 0.7, random: new RandomStream(2) } },
    { item: 0, prompt: [1], endId: 3, maximumLength: 1 },
    { item: 0, prompt: [2], endId: 3, maximumLength: 7, beamWidth: 2 },
  ];
  const together = writeSequences(network, network.session, requests());
  t.deepEqual(
    together,
    requests().flatMap((request) => writeSequences(network, network.session, [request])),
  );
  t.deepEqual(together[3]?.tokens, [], "there is no room after the prompt");
  t.deepEqual(writeSequences(network, network.session, []), []);
});
