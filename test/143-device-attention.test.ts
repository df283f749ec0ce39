import { assertClose } from "./gpu.js";
import test from "ava";
import {
  attention,
  deviceAttention,
  deviceRotateHeads,
  DeviceSequences,
  DeviceTensor,
  Recording,
  SequenceOffsets,
  Tensor,
} from "../lib/operations.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { keep } from "../lib/tensor/scope.js";
import { floatTypes, rounded } from "./device_products.js";
import { randomTensor, randomValues } from "./gradient.js";

const attentionCases = [
  { lengths: [1], heads: 1, headDim: 8 },
  { lengths: [7, 0, 65, 1], heads: 2, headDim: 48 },
  { lengths: [64, 130], heads: 1, headDim: 64 },
  { lengths: [70], heads: 2, headDim: 128 },
  { lengths: [33], heads: 1, headDim: 160 },
  { lengths: [139, 3], heads: 1, headDim: 160 },
];

test("attention with rotary positions", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const { lengths, heads, headDim } of attentionCases) {
      const offsets = new SequenceOffsets(lengths);
      using sequences = new DeviceSequences(offsets);
      const [q, k, v] = [1, 2, 3].map((seed) =>
        rounded(
          Tensor.from(
            randomValues(offsets.frames * heads * headDim, seed).map((x) => 2 * x),
            [offsets.frames, heads * headDim],
          ),
          type,
        ),
      ) as [ReturnType<typeof rounded>, ReturnType<typeof rounded>, ReturnType<typeof rounded>];
      const expected = attention(q.host, k.host, v.host, offsets, { heads, ropeTheta: 10000 });
      const alone = k.device.clone();
      deviceRotateHeads(alone, sequences, { heads, theta: 10000 });
      deviceRotateHeads(q.device, sequences, { heads, theta: 10000, key: k.device });
      t.deepEqual(alone.toArray(), k.device.toArray());
      for (const batchInvariant of [false, true]) {
        const out = deviceAttention(q.device, k.device, v.device, sequences, { heads, batchInvariant });
        assertClose(
          t,
          out.toTensor().toArray(),
          expected.toArray(),
          3 * tolerance,
          `${type} [${lengths.join(", ")}], ${heads} heads of ${headDim}`,
        );
      }
    }
  }
});

test("attention with relative positions", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const { lengths, heads, headDim } of attentionCases) {
      const offsets = new SequenceOffsets(lengths);
      using sequences = new DeviceSequences(offsets);
      const width = heads * headDim;
      const make = (shape: number[], seed: number): ReturnType<typeof rounded> => rounded(randomTensor(shape, seed), type);
      const [q, k, v] = [make([offsets.frames, width], 1), make([offsets.frames, width], 2), make([offsets.frames, width], 3)];
      const [p, contentBias, positionBias] = [make([2 * sequences.longest - 1, width], 4), make([width], 5), make([width], 6)];
      const expected = relativeAttention(q.host, k.host, v.host, { keys: p.host, origin: sequences.longest - 1 }, offsets, {
        heads,
        contentBias: contentBias.host,
        positionBias: positionBias.host,
      });
      const relative = { positions: p.device, contentBias: contentBias.device, positionBias: positionBias.device };
      for (const batchInvariant of [false, true]) {
        const out = deviceAttention(q.device, k.device, v.device, sequences, { heads, relative, batchInvariant });
        assertClose(
          t,
          out.toTensor().toArray(),
          expected.toArray(),
          3 * tolerance,
          `${type} [${lengths.join(", ")}], ${heads} heads of ${headDim}`,
        );
      }
    }
  }
});

test("a sequence gives the same bits whatever else is in the batch, where that is asked for", (t) => {
  const offsets = new SequenceOffsets([5, 90, 70]);
  using sequences = new DeviceSequences(offsets);
  using alone = new DeviceSequences(new SequenceOffsets([90]));
  const [q, k, v] = [1, 2, 3].map((seed) => randomTensor([165, 32], seed)) as [Tensor, Tensor, Tensor];
  const [all, one] = [
    [0, 165],
    [5, 95],
  ].map(([begin, end]) => [q, k, v].map((x) => DeviceTensor.from(x.rows(begin as number, end as number)))) as [
    DeviceTensor[],
    DeviceTensor[],
  ];
  const run = ([query, key, value]: DeviceTensor[], within: DeviceSequences): Float32Array =>
    deviceAttention(query as DeviceTensor, key as DeviceTensor, value as DeviceTensor, within, { heads: 2, batchInvariant: true })
      .toTensor()
      .toArray();
  t.deepEqual(run(one, alone), run(all, sequences).slice(5 * 32, 95 * 32));
});

test("keys divided among blocks: the same bits in every call and recorded, whatever other sequences hold, and scores far apart", (t) => {
  const [heads, width] = [2, 32];
  for (const lengths of [[67, 5], [7], [130, 67]]) {
    const offsets = new SequenceOffsets(lengths);
    using sequences = new DeviceSequences(offsets);
    // The largest scores of a query are all in one part of the keys, and those of other parts are gone beside them.
    const keys = randomValues(offsets.frames * width, 1).map((value, i) => value * (i % (40 * width) < 8 * width ? 60 : 1));
    const [q, k, v] = [
      randomTensor([offsets.frames, width], 2),
      Tensor.from(keys, [offsets.frames, width]),
      randomTensor([offsets.frames, width], 3),
    ].map((x) => rounded(x, "bfloat16")) as [ReturnType<typeof rounded>, ReturnType<typeof rounded>, ReturnType<typeof rounded>];
    const run = (key = k.device): DeviceTensor => deviceAttention(q.device, key, v.device, sequences, { heads });
    const found = run().toArray();
    assertClose(t, found, attention(q.host, k.host, v.host, offsets, { heads }).toArray(), 3 * 2 ** -7, `[${lengths.join(", ")}]`);
    t.deepEqual(run().toArray(), found);
    const kept: DeviceTensor[] = [];
    using recording = new Recording(() => kept.push(keep(run())));
    for (let i = 0; i < 2; i++) {
      recording.run();
      t.deepEqual((kept[0] as DeviceTensor).toArray(), found);
    }
    const end = (lengths[0] as number) * width;
    t.deepEqual(
      run(
        DeviceTensor.from(
          Tensor.from(
            keys.map((value, i) => (i < end ? value : NaN)),
            [offsets.frames, width],
          ),
        ),
      )
        .toArray()
        .subarray(0, end),
      found.subarray(0, end),
    );
  }
});
