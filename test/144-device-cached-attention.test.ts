import { assertClose } from "./gpu.js";
import test from "ava";
import { deviceCachedAttention, deviceExtendCache } from "../lib/device/cached_attention.js";
import { DeviceSequences } from "../lib/device/device_sequences.js";
import { DeviceTensor, SequenceOffsets, Tensor, tidy, UsmLiteError } from "../lib/operations.js";
import { cachedAttention } from "../lib/ops/cached_attention.js";
import { randomTensor } from "./gradient.js";

for (const type of ["bfloat16", "float16"] as const)
  test(`queries see the keys that they see on the CPU, ${type}`, (t) => {
    for (const { queries, keys, heads, headDim, causal } of [
      { queries: [1], keys: [1], heads: 4, headDim: 2, causal: true },
      { queries: [3, 1, 0], keys: [3, 70, 4], heads: 2, headDim: 40, causal: true },
      { queries: [1, 2], keys: [130, 1], heads: 1, headDim: 64, causal: false },
      { queries: [1], keys: [66], heads: 2, headDim: 120, causal: true },
      { queries: [2], keys: [40], heads: 1, headDim: 256, causal: true },
    ])
      tidy(() => {
        const [offsets, keyOffsets] = [new SequenceOffsets(queries), new SequenceOffsets(keys)];
        const placed = (x: Tensor): DeviceTensor => DeviceTensor.from(x, type);
        const [query, key, value] = [
          Tensor.from(
            randomTensor([offsets.frames, heads * headDim], 1)
              .toArray()
              .map((value) => 3 * value),
            [offsets.frames, heads * headDim],
          ),
          randomTensor([keyOffsets.frames, heads * headDim], 2),
          randomTensor([keyOffsets.frames, heads * headDim], 3),
        ].map(placed) as [DeviceTensor, DeviceTensor, DeviceTensor];
        const chosen = Tensor.from(Int32Array.from({ length: keyOffsets.frames }, (_, i) => (i * 7) % keyOffsets.frames));
        for (const rows of [undefined, chosen]) {
          const ownOffsets = new SequenceOffsets(keys); // on the GPU once, with these rows
          const found = cachedAttention(query, offsets, { keys: key, values: value, offsets: ownOffsets, rows }, { heads, causal });
          const expected = cachedAttention(
            query.toTensor(),
            offsets,
            { keys: key.toTensor(), values: value.toTensor(), offsets: keyOffsets, rows },
            { heads, causal },
          );
          assertClose(
            t,
            found.toArray(),
            expected.toArray(),
            type === "bfloat16" ? 2 ** -7 : 2 ** -10,
            `${queries.join()} over ${keys.join()}${rows ? ", chosen" : ""}`,
          );
        }
      });
  });

test("extreme scores neither overflow nor vanish, and NaN stays with its query", (t) => {
  const [query, keys, values] = [
    [3e4, 0, 0, 3e4, NaN, 0],
    [1, 0, -1, 0, 1, 0],
    [1, 2, 3, 4, 5, 6],
  ].map((x) => DeviceTensor.from(Tensor.from(x, [3, 2]))) as [DeviceTensor, DeviceTensor, DeviceTensor];
  const sees = (lengths: number[]): SequenceOffsets => new SequenceOffsets(lengths);
  const y = cachedAttention(query, sees([3]), { keys, values, offsets: sees([3]) }, { heads: 1, scale: 1 }).toArray();
  t.deepEqual([...y], [3, 4, 3, 4, NaN, NaN]);
});

test("misuse of a cache is a coded error", (t) => {
  const sequences = (...lengths: number[]): DeviceSequences => new DeviceSequences(new SequenceOffsets(lengths));
  const x = DeviceTensor.zeros([4, 16]);
  const attend = (change: {
    query?: DeviceTensor;
    queries?: DeviceSequences;
    keys?: DeviceTensor;
    sequences?: DeviceSequences;
    heads?: number;
    causal?: boolean;
  }): unknown => {
    const { query = x, queries = sequences(4), keys = x, sequences: seen = sequences(4), heads = 2, causal = false } = change;
    return deviceCachedAttention(query, queries, { keys, values: keys, sequences: seen }, { heads, causal, scale: 1 });
  };
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  t.notThrows(() => attend({}));
  t.throws(() => attend({ heads: 3 }), { ...invalid, message: /3 heads of equal size/ });
  t.throws(() => attend({ keys: DeviceTensor.zeros([4, 16], "float16") }), { ...invalid, message: /key must be bfloat16/ });
  t.throws(() => attend({ keys: DeviceTensor.zeros([4, 8]) }), { ...invalid, message: /with 16 columns/ });
  t.throws(() => attend({ queries: sequences(3) }), { ...invalid, message: /have 3 frames but x has 4/ });
  t.throws(() => attend({ sequences: sequences(2, 2) }), { ...invalid, message: /queries of 1 sequences but keys of 2/ });
  t.throws(() => attend({ sequences: sequences(3), causal: true }), { ...invalid, message: /4 queries but only 3 keys/ });
  t.throws(() => attend({ sequences: sequences(5) }), { ...invalid, message: /reach to row 4 but key has 4/ });
  const rows = (...at: number[]): DeviceSequences =>
    DeviceSequences.ofRows(new SequenceOffsets([at.length]), Tensor.from(Int32Array.from(at)));
  t.notThrows(() => attend({ sequences: rows(3, 0, 3, 3) }));
  t.throws(() => attend({ sequences: rows(0, 4) }), { ...invalid, message: /reach to row 4 but key has 4/ });
  t.throws(() => rows(0, -1), { ...invalid, message: /names row -1/ });
  t.throws(() => attend({ queries: rows(0, 1, 2, 3) }), { ...invalid, message: /rows here and there/ });
  t.throws(() => attend({ query: DeviceTensor.zeros([4, 258]), keys: DeviceTensor.zeros([4, 258]), heads: 1 }), {
    code: "UNSUPPORTED_SPEC",
    message: /up to|256/,
  });
  const extend = (change: { keys?: DeviceTensor; cache?: DeviceTensor; tokens?: DeviceSequences; places?: DeviceSequences }): void => {
    const { keys = DeviceTensor.zeros([2, 16]), cache = x, tokens = sequences(2), places = rows(0, 3) } = change;
    deviceExtendCache({ keys: cache, values: cache, sequences: places }, tokens, keys, keys);
  };
  t.notThrows(() => extend({}));
  t.throws(() => extend({ cache: DeviceTensor.zeros([4, 8]) }), { ...invalid, message: /with 16 columns/ });
  t.throws(() => extend({ tokens: sequences(3) }), { ...invalid, message: /3 queries but only 2 keys/ });
  t.throws(() => extend({ places: rows(0, 4) }), { ...invalid, message: /reach to row 4 but the cache has 4/ });
  const refilled = rows(2, 3);
  t.notThrows(() => refilled.refill(new SequenceOffsets([1]), { rows: Tensor.from(Int32Array.of(3)) }));
  t.throws(() => refilled.refill(new SequenceOffsets([1]), { rows: Tensor.from(Int32Array.of(4)) }), {
    ...invalid,
    message: /names row 4 but there are 4/,
  });
  t.throws(() => refilled.refill(new SequenceOffsets([1])), { ...invalid, message: /where there were some/ });
  t.throws(() => DeviceSequences.ofRows(new SequenceOffsets([2]), Tensor.from(Int32Array.of(0))), { ...invalid, message: /rows/ });
});
