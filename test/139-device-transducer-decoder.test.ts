import { assertClose, onlySmall } from "./gpu.js";
import test from "ava";
import {
  DeviceTensor,
  gpuHostTraffic,
  gpuMemoryStatistics,
  Tensor,
  TransducerDecoder,
  type TransducerRules,
  type TransducerState,
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
  const floats = states.map((state) => state.toArray());
  for (const state of states) state.dispose();
  return { steps, states: floats };
}

const utterance = <Frames extends Float32Array | DeviceTensor>(frames: Frames) => ({ frames, state: undefined, symbolsAtFrame: 0 });

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

test("decoding goes on from a state as if it had not stopped, recorded or not, and when its decoder is gone", (t) => {
  const rules = { blankId: 10, durations: [], maximumSymbolsPerFrame: 2 };
  const weights = weightsOf(16, 2, 11, 0);
  using decoder = new TransducerDecoder(weights, rules);
  const frames = halves([9, 16], 7, 2).toArray() as Float32Array;
  const whole = decoded(decoder, [utterance(frames)]);
  const [first, second] = [frames.subarray(0, 5 * 16), frames.subarray(5 * 16)];
  const before = new TransducerDecoder(weights, rules);
  const ids: number[] = [];
  const [state] = before.decode([utterance(first)], (_, { id }) => ids.push(id)) as [TransducerState];
  before.dispose();
  for (const known of [state, state.toArray()]) {
    const after = decoded(decoder, [{ frames: second, state: known, symbolsAtFrame: 0 }]);
    t.deepEqual(
      [...ids, ...after.steps.flat().map((step) => step.id)],
      whole.steps.flat().map((step) => step.id),
    );
    assertClose(t, after.states[0] as Float32Array, whole.states[0] as Float32Array, 1e-6, "state");
  }
  state.dispose();
  state.dispose();
  t.true(state.released);
  t.throws(() => decoder.decode([{ frames: second, state, symbolsAtFrame: 0 }], () => undefined), { code: "TENSOR_RELEASED" });
});

test("frames that are on the GPU stay there: only blocks of steps come down, with one wait for each", (t) => {
  const [size, rules] = [8, { blankId: 10, durations: [], maximumSymbolsPerFrame: 2 }];
  using decoder = new TransducerDecoder(weightsOf(size, 1, 11, 0), rules);
  const values = Tensor.from(randomValues(22 * size, 3), [22, size]);
  using rounded = DeviceTensor.from(values, "bfloat16");
  const ranges = [
    [0, 1],
    [1, 21],
  ] as const; // a short one, and one whose blocks are begun before the former are looked at
  const rows = ranges.map(([begin, end]) => rounded.rows(begin, end));
  const floats = ranges.map(([begin, end]) => rounded.toArray().slice(begin * size, end * size));
  const expected = decoded(decoder, floats.map(utterance));
  t.deepEqual(decoded(decoder, rows.map(utterance)), expected); // memory for frames of this type takes the place of that for floats
  const memory = gpuMemoryStatistics().bytesInUse;
  const steps = rows.map(() => [] as TransducerStep[]);
  const before = gpuHostTraffic();
  const states = decoder.decode(rows.map(utterance), (index, step) => steps[index]?.push(step));
  const after = gpuHostTraffic();
  t.deepEqual(steps, expected.steps);
  const blocks = Math.ceil(((expected.steps[1]?.length ?? 0) + 1) / 8); // the last one tells of an utterance that it has ended
  t.true(blocks >= 3);
  t.is(after.waits - before.waits, blocks);
  t.is(after.bytesToHost - before.bytesToHost, blocks * 8 * 2 * 16);
  t.is(after.bytesToGpu - before.bytesToGpu, 2 * 16);
  t.deepEqual(
    states.map((state) => state.toArray()),
    expected.states,
  );
  t.true(gpuMemoryStatistics().bytesInUse > memory);
  for (const state of states) state.dispose();
  t.true(gpuMemoryStatistics().bytesInUse <= memory);
  const mixed = decoded(decoder, [utterance(floats[0] as Float32Array), utterance(rows[1] as DeviceTensor)]);
  t.deepEqual(mixed, expected);
  for (const tensor of rows) tensor.dispose();
});

test("a decoder goes on after whoever is told of steps has thrown", (t) => {
  using decoder = new TransducerDecoder(weightsOf(8, 1, 11, 0), { blankId: 10, durations: [], maximumSymbolsPerFrame: 2 });
  const frames = randomValues(20 * 8, 3);
  const expected = decoded(decoder, [utterance(frames)]);
  const refuse = (): void => {
    throw new RangeError("no more");
  };
  t.throws(() => decoder.decode([utterance(frames)], refuse), { instanceOf: RangeError });
  t.deepEqual(decoded(decoder, [utterance(frames)]), expected);
});

test("hidden values that are no multiple of 8 are a coded error", (t) => {
  t.throws(() => new TransducerDecoder(weightsOf(12, 1, 5, 0), { blankId: 4, durations: [], maximumSymbolsPerFrame: 2 }), {
    code: "INVALID_ARGUMENT",
    message: /there are 12 hidden values; on the GPU they must be a multiple of 8/,
  });
});
