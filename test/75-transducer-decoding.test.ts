import test from "ava";
import { TransducerBeamSearch } from "../lib/decode/transducer_beam_search.js";
import { transducerGreedy, TransducerGreedySearch } from "../lib/decode/transducer_greedy.js";
import { logSumExp, type TransducerInput, type TransducerScorer } from "../lib/decode/transducer.js";
import type { Prediction } from "../lib/nn/prediction_network.js";
import { randomValues } from "./gradient.js";

const blankId = 2;
const vocabulary = 3;

/** A transducer whose scores are those of the frame plus those that follow the last token. */
class TableScorer implements TransducerScorer {
  readonly blankId = blankId;
  readonly vocabularySize = vocabulary;

  constructor(
    readonly durations: readonly number[],
    private readonly afterToken: Float32Array,
    readonly maximumSymbolsPerFrame = 4,
  ) {}

  get width(): number {
    return vocabulary + this.durations.length;
  }

  predict(tokens: readonly number[]): Prediction[] {
    const { width } = this;
    return tokens.map((id) => ({ output: this.afterToken.slice(id * width, (id + 1) * width), state: new Float32Array(0) }));
  }

  scores(frames: readonly Float32Array[], predictions: readonly Prediction[]): Float32Array {
    return Float32Array.from(
      frames.flatMap((frame, row) => [...frame].map((value, i) => value + ((predictions[row] as Prediction).output[i] as number))),
    );
  }
}

const utterance = (frames: number, width: number, seed: number): TransducerInput => ({
  values: randomValues(frames * width, seed).map((value) => 3 * value),
  frames,
});

/** Sum over all alignments of each token sequence, by trying every path. */
function allSequences(network: TableScorer, { values, frames }: TransducerInput): Map<string, number> {
  const sums = new Map<string, number>();
  const { width } = network;
  const visit = (frame: number, symbols: number, last: number, tokens: readonly number[], logProbability: number): void => {
    if (frame >= frames) {
      const key = tokens.join(" ");
      sums.set(key, Math.log(Math.exp(sums.get(key) ?? -Infinity) + Math.exp(logProbability)));
      return;
    }
    // What no search follows: more tokens at a frame than are allowed send it on.
    if (symbols >= network.maximumSymbolsPerFrame) return visit(frame + 1, 0, last, tokens, logProbability);
    const scores = network.scores([values.subarray(frame * width, (frame + 1) * width)], network.predict([last]));
    const ids = scores.subarray(0, vocabulary);
    const tail = scores.subarray(vocabulary);
    for (let id = 0; id < vocabulary; id++) {
      const choices = network.durations.length > 0 ? network.durations : [id === blankId ? 1 : 0];
      choices.forEach((duration, index) => {
        const added = (ids[id] as number) - logSumExp(ids) + (network.durations.length > 0 ? (tail[index] as number) - logSumExp(tail) : 0);
        const next = id === blankId ? Math.max(1, duration) : duration;
        visit(
          frame + next,
          next > 0 ? 0 : symbols + 1,
          id === blankId ? last : id,
          id === blankId ? tokens : [...tokens, id],
          logProbability + added,
        );
      });
    }
  };
  visit(0, 0, blankId, [], 0);
  return sums;
}

for (const [name, durations] of [
  ["RNN-T", []],
  ["TDT", [0, 1, 2]],
] as const) {
  test(`${name}: a wide beam finds the most probable token sequence with the probability of all its alignments`, (t) => {
    for (let seed = 1; seed <= 6; seed++) {
      const width = vocabulary + durations.length;
      const network = new TableScorer(durations, randomValues(vocabulary * width, seed), 2);
      const input = utterance(3, width, seed + 50);
      const expected = [...allSequences(network, input)].sort(([, a], [, b]) => b - a);
      const search = new TransducerBeamSearch(network, { beamWidth: 10_000, beamThreshold: 1000 });
      search.advance(input);
      search.best(5).forEach(({ tokens, logProbability }, rank) => {
        const [key, probability] = expected[rank] as [string, number];
        t.is(tokens.map(({ id }) => id).join(" "), key);
        t.true(Math.abs(logProbability - probability) < 1e-4, `${logProbability} is not ${probability}`);
      });
    }
  });

  test(`${name}: several recordings in step give what each gives alone, whole or in pieces`, (t) => {
    const width = vocabulary + durations.length;
    const network = new TableScorer(durations, randomValues(vocabulary * width, 3));
    const inputs = [12, 0, 5, 30].map((frames, index) => utterance(frames, width, index));
    const together = transducerGreedy(network, inputs);
    inputs.forEach((input, index) => t.deepEqual(transducerGreedy(network, [input])[0], together[index]));
    const { values } = inputs[3] as TransducerInput;
    const pieces = new TransducerGreedySearch(network);
    const beam = [new TransducerBeamSearch(network, { beamWidth: 3 }), new TransducerBeamSearch(network, { beamWidth: 3 })] as const;
    beam[1].advance({ values, frames: 30 });
    let settled = 0;
    for (const [begin, end] of [
      [0, 7],
      [7, 8],
      [8, 30],
    ] as const) {
      const piece = { values: values.subarray(begin * width, end * width), frames: end - begin };
      TransducerGreedySearch.advance([pieces], [piece]);
      beam[0].advance(piece);
      const tokens = beam[0].settledTokens();
      t.true(tokens.length >= settled);
      settled = tokens.length;
    }
    t.deepEqual(pieces.path(), together[3]);
    t.deepEqual(beam[0].best(3), beam[1].best(3));
  });
}

test("greedy decoding goes on after the most symbols that a frame may have, and by durations", (t) => {
  // The first frame says token 0 for ever, the second a blank.
  const network = new TableScorer([], new Float32Array(9), 3);
  const stuck = transducerGreedy(network, [{ values: Float32Array.from([5, 0, 0, 0, 0, 5]), frames: 2 }])[0];
  t.deepEqual(
    stuck?.steps.map(({ id }) => id),
    [0, 0, 0, 2],
  );
  t.deepEqual(
    stuck?.tokens.map(({ firstFrame }) => firstFrame),
    [0, 0, 0],
  );
  // Token 1 with a duration of 2 at frame 0; frame 1 is never looked at; a blank of duration 0 goes on by one.
  const timed = new TableScorer([0, 2], new Float32Array(15));
  const values = Float32Array.from([0, 9, 0, 0, 9, 9, 0, 0, 9, 0, 0, 0, 9, 9, 0, 9, 0, 0, 0, 9]);
  const path = transducerGreedy(timed, [{ values, frames: 4 }])[0];
  t.deepEqual(path?.steps, [
    { id: 1, duration: 2 },
    { id: 2, duration: 1 },
    { id: 0, duration: 2 },
  ]);
  t.deepEqual(
    path?.tokens.map(({ id, firstFrame, endFrame }) => [id, firstFrame, endFrame]),
    [
      [1, 0, 2],
      [0, 3, 5],
    ],
  );
});

test("scorers change what the beam search prefers", (t) => {
  const network = new TableScorer([], new Float32Array(9));
  const input = { values: Float32Array.from([1, 0.8, 0, -9, -9, 0]), frames: 2 };
  const scorer = {
    start: () => ({ score: 0 }),
    extend: ({ score }: { score: number }, id: number) => ({ score: score + (id === 1 ? 2 : -2) }),
    finish: ({ score }: { score: number }) => score,
  };
  const plain = new TransducerBeamSearch(network);
  const guided = new TransducerBeamSearch(network, { scorers: [scorer] });
  plain.advance(input);
  guided.advance(input);
  t.not(plain.best()[0]?.tokens[0]?.id, 1);
  t.is(guided.best()[0]?.tokens[0]?.id, 1);
  t.throws(() => new TransducerBeamSearch(network, { beamWidth: 0 }), { code: "INVALID_ARGUMENT", message: /beamWidth/ });
});
