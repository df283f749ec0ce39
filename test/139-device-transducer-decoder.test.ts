import { assertClose, onlySmall } from "./gpu.js";
import test from "ava";
import {
  DeviceTensor,
  Tensor,
  TransducerDecoder,
  type TransducerRules,
  type TransducerStep,
  type TransducerUtterance,
  type TransducerWeights,
} from "../lib/operations.js";
import type { TransducerLayer } from "../lib/device/transducer_decoder.js";
import { randomValues } from "./gradient.js";

/** Random values that float16 holds. */
const halves = (shape: readonly number[], seed: number, factor: number): Tensor => {
  const values = randomValues(
    shape.reduce((product, extent) => product * extent, 1),
    seed,
  ).map((value) => factor * value);
  return DeviceTensor.from(Tensor.from(values, shape), "float16").toTensor();
};

function weightsOf(hidden: number, layers: number, vocabulary: number, durations: number): TransducerWeights {
  const layer = (rows: number, seed: number, factor: number): TransducerLayer => ({
    weight: halves([rows, hidden], seed, factor),
    bias: halves([rows], seed + 1, 0.3),
  });
  const scale = 2 * hidden ** -0.5;
  return {
    embedding: halves([vocabulary, hidden], 1, 1.5),
    layers: Array.from({ length: layers }, (_, index) => ({
      input: layer(4 * hidden, 10 + 4 * index, scale),
      recurrent: layer(4 * hidden, 12 + 4 * index, scale),
    })),
    projector: layer(hidden, 50, scale),
    head: layer(vocabulary + durations, 52, 2 * scale),
  };
}

/** `weight x + bias` in float64. */
function product({ weight, bias }: TransducerLayer, x: readonly number[]): number[] {
  const [values, added] = [weight.toArray(), bias?.toArray()];
  return Array.from({ length: weight.dim(0) }, (_, row) =>
    x.reduce((sum, value, column) => sum + value * (values[row * x.length + column] as number), added?.[row] ?? 0),
  );
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** What {@link TransducerDecoder} computes, one utterance and one number after the other. */
function referenceDecoding(
  weights: TransducerWeights,
  { blankId, durations, maximumSymbolsPerFrame }: TransducerRules,
  frames: Float32Array,
): { steps: TransducerStep[]; state: number[] } {
  const hidden = weights.embedding.dim(1);
  const table = weights.embedding.toArray();
  const memory = weights.layers.map(() => ({ h: new Array<number>(hidden).fill(0), c: new Array<number>(hidden).fill(0) }));
  let output: number[] = [];
  const say = (token: number): void => {
    let x = [...table.subarray(token * hidden, (token + 1) * hidden)];
    weights.layers.forEach(({ input, recurrent }, index) => {
      const { h, c } = memory[index] as { h: number[]; c: number[] };
      const [a, b] = [product(input, x), product(recurrent, h)];
      const gate = (which: number, i: number): number => (a[which * hidden + i] as number) + (b[which * hidden + i] as number);
      for (let i = 0; i < hidden; i++) {
        c[i] = sigmoid(gate(1, i)) * (c[i] as number) + sigmoid(gate(0, i)) * Math.tanh(gate(2, i));
        h[i] = sigmoid(gate(3, i)) * Math.tanh(c[i] as number);
      }
      x = [...h];
    });
    output = product(weights.projector, x);
  };
  say(blankId);
  const steps: TransducerStep[] = [];
  for (let frame = 0, symbols = 0; frame < frames.length / hidden;) {
    const joined = output.map((value, i) => Math.max(0, value + (frames[frame * hidden + i] as number)));
    const scores = product(weights.head, joined);
    const tokens = scores.slice(0, scores.length - durations.length);
    const best = (values: readonly number[]): number => values.indexOf(Math.max(...values));
    const id = best(tokens);
    const total = tokens.reduce((sum, score) => sum + Math.exp(score - (tokens[id] as number)), 0);
    const duration = durations.length ? (durations[best(scores.slice(tokens.length))] as number) : 0;
    steps.push({ id, duration, logProbability: -Math.log(total) });
    let forward = id === blankId ? Math.max(1, duration) : duration;
    symbols = forward > 0 ? 0 : symbols + 1;
    if (symbols >= maximumSymbolsPerFrame) [forward, symbols] = [1, 0];
    frame += forward;
    if (id !== blankId) say(id);
  }
  return { steps, state: memory.flatMap(({ h, c }) => [...h, ...c]) };
}

/** Steps and state of each utterance. */
function decoded(
  decoder: TransducerDecoder,
  utterances: readonly TransducerUtterance[],
): { steps: TransducerStep[][]; states: Float32Array[] } {
  const steps: TransducerStep[][] = utterances.map(() => []);
  const states = decoder.decode(utterances, (utterance, step) => steps[utterance]?.push(step));
  return { steps, states };
}

const utterance = (frames: Float32Array): TransducerUtterance => ({ frames, state: undefined, symbolsAtFrame: 0 });

for (const { hidden, layers, durations, count } of [
  { hidden: 8, layers: 1, durations: [0, 1, 2], count: 3 },
  { hidden: 40, layers: 2, durations: [], count: onlySmall ? 2 : 35 },
]) {
  test(`tokens and states are those of a plain computation, in the same bits in any batch: ${count} utterances, ${hidden} values`, (t) => {
    const vocabulary = 11;
    const rules = { blankId: vocabulary - 1, durations, maximumSymbolsPerFrame: 3 };
    const weights = weightsOf(hidden, layers, vocabulary, durations.length);
    using decoder = new TransducerDecoder(weights, rules);
    const utterances = Array.from({ length: count }, (_, index) =>
      utterance(halves([1 + (index % 3), hidden], 100 + index, 2).toArray() as Float32Array),
    );
    const { steps, states } = decoded(decoder, utterances);
    let said = 0;
    utterances.forEach(({ frames }, index) => {
      const expected = referenceDecoding(weights, rules, frames);
      const ids = (of: readonly TransducerStep[]): unknown => of.map(({ id, duration }) => [id, duration]);
      t.deepEqual(ids(steps[index] as TransducerStep[]), ids(expected.steps), `utterance ${index}`);
      const probabilities = (of: readonly TransducerStep[]): Float32Array => Float32Array.from(of.map((step) => step.logProbability));
      assertClose(t, probabilities(steps[index] as TransducerStep[]), probabilities(expected.steps), 2e-2, `utterance ${index}`);
      assertClose(t, states[index] as Float32Array, Float32Array.from(expected.state), 1e-2, `state ${index}`);
      said += expected.steps.filter(({ id }) => id !== rules.blankId).length;
    });
    t.true(said > count);
    for (const index of [0, count - 1]) {
      const alone = decoded(decoder, [utterances[index] as TransducerUtterance]);
      t.deepEqual(alone.steps[0], steps[index]);
      t.deepEqual(alone.states[0], states[index]);
    }
  });
}

test("decoding goes on from a state as if it had not stopped, recorded or not", (t) => {
  const rules = { blankId: 10, durations: [], maximumSymbolsPerFrame: 2 };
  using decoder = new TransducerDecoder(weightsOf(16, 2, 11, 0), rules);
  const frames = halves([9, 16], 7, 2).toArray() as Float32Array;
  const whole = decoded(decoder, [utterance(frames)]);
  const [first, second] = [frames.subarray(0, 5 * 16), frames.subarray(5 * 16)];
  const before = decoded(decoder, [utterance(first)]);
  const after = decoded(decoder, [{ frames: second, state: before.states[0], symbolsAtFrame: 0 }]);
  const ids = (of: readonly TransducerStep[][]): number[] => of.flat().map(({ id }) => id);
  t.deepEqual([...ids(before.steps), ...ids(after.steps)], ids(whole.steps));
  assertClose(t, after.states[0] as Float32Array, whole.states[0] as Float32Array, 1e-6, "state");
});

test("hidden values that are no multiple of 8 are a coded error", (t) => {
  t.throws(() => new TransducerDecoder(weightsOf(12, 1, 5, 0), { blankId: 4, durations: [], maximumSymbolsPerFrame: 2 }), {
    code: "INVALID_ARGUMENT",
    message: /there are 12 hidden values; on the GPU they must be a multiple of 8/,
  });
});
