import test from "ava";
import {
  availableInstructionSets,
  relativeMeanSquare,
  SequenceOffsets,
  setInstructionSet,
  softmaxDivergence,
  Tensor,
} from "../lib/operations.js";
import { gelu } from "../lib/ops/gelu.js";
import { groupedConvolution } from "../lib/ops/grouped_convolution.js";
import { planeConvolution } from "../lib/ops/plane_convolution.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { reshape } from "../lib/ops/reshape.js";
import { rotateRows } from "../lib/ops/rotary_embedding.js";
import { swapLastAxes } from "../lib/ops/swap_axes.js";
import { weightNorm } from "../lib/ops/weight_norm.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";

const onEach = (body: (set: string) => void): void => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    body(set);
  }
};

test.serial("relative attention", (t) => {
  const offsets = new SequenceOffsets([5, 0, 1, 9]);
  const frames = offsets.frames;
  onEach(() => {
    for (const { keyValueHeads, context } of [
      { keyValueHeads: 4 },
      { keyValueHeads: 2, context: [2, 1] as const },
      { keyValueHeads: 1, context: [0, 20] as const },
    ]) {
      const [heads, d] = [4, 3];
      const reach = 8;
      const inputs = [
        randomTensor([frames, heads * d], 1),
        randomTensor([frames, keyValueHeads * d], 2),
        randomTensor([frames, keyValueHeads * d], 3),
        randomTensor([2 * reach + 1, heads * d], 4),
        randomTensor([heads, d], 5),
        randomTensor([heads, d], 6),
      ];
      checkGradients(
        t,
        ([query, key, value, keys, contentBias, positionBias]) =>
          relativeAttention(query as Tensor, key as Tensor, value as Tensor, { keys: keys as Tensor, origin: reach }, offsets, {
            heads,
            keyValueHeads,
            contentBias: contentBias as Tensor,
            positionBias: positionBias as Tensor,
            context,
          }),
        inputs,
        { samples: 20 },
      );
    }
  });
});

test.serial("depthwise convolution over the plane", (t) => {
  const offsets = new SequenceOffsets([5, 1, 0, 8]);
  onEach(() => {
    for (const activation of ["none", "relu"] as const) {
      for (const shared of [true, false]) {
        const [features, channels] = [6, 19];
        const inputs = [
          randomTensor([offsets.frames, features * (shared ? 1 : channels)], 1),
          randomTensor([channels, 1, 3, 3], 2),
          randomTensor([channels], 3),
        ];
        checkGradients(
          t,
          ([x, weight, bias]) =>
            planeConvolution(x as Tensor, weight as Tensor, bias as Tensor, offsets, { features, stride: 2, padding: 1, activation })
              .output,
          inputs,
          // Around the kink of relu a difference sees both slopes.
          { step: 3e-4, samples: 25 },
        );
      }
    }
  });
});

test.serial("grouped convolution with weight normalization", (t) => {
  const offsets = new SequenceOffsets([7, 0, 3]);
  onEach(() => {
    const inputs = [randomTensor([10, 6], 1), randomTensor([1, 1, 4], 2), randomTensor([6, 3, 4], 3), randomTensor([6], 4)];
    checkGradients(
      t,
      ([x, gain, direction, bias]) =>
        groupedConvolution(x as Tensor, swapLastAxes(weightNorm(gain as Tensor, direction as Tensor)), bias as Tensor, offsets, {
          groups: 2,
          leftPadding: 2,
        }),
      inputs,
    );
  });
});

test.serial("gelu, rotated rows and other shapes", (t) => {
  onEach((set) => {
    checkGradients(
      t,
      ([x]) => gelu(x as Tensor),
      [
        Tensor.from(
          randomValues(77, 1).map((x) => 4 * x),
          [7, 11],
        ),
      ],
      { samples: 77 },
    );
    const extreme = Tensor.from([-1e4, -60, -0, 0, 60, 1e4]);
    checkGradients(t, ([x]) => gelu(x as Tensor), [extreme], { step: 0.5 });
    t.true(gelu(extreme).toArray().every(Number.isFinite), set);
  });
  checkGradients(t, ([x]) => rotateRows(x as Tensor, new SequenceOffsets([4, 3]), 2, 10_000), [randomTensor([7, 8], 1)]);
  checkGradients(t, ([x]) => swapLastAxes(reshape(x as Tensor, [2, 3, 4])), [randomTensor([6, 4], 1)]);
});

test.serial("divergence between distributions", (t) => {
  const [rows, columns] = [9, 21];
  const teacher = Tensor.from(
    randomValues(rows * columns, 2).map((x) => 5 * x),
    [rows, columns],
  );
  const weights = Float32Array.from({ length: rows }, (_, row) => row % 3);
  onEach((set) => {
    for (const temperature of [1, 3]) {
      const student = randomTensor([rows, columns], 1);
      checkGradients(t, ([x]) => softmaxDivergence(x as Tensor, teacher, { temperature }), [student], { samples: 189 });
      checkGradients(t, ([x]) => softmaxDivergence(x as Tensor, teacher, { temperature, weights }), [student], { samples: 189 });
    }
    const value = (x: Tensor, y: Tensor, options = {}): number => softmaxDivergence(x, y, options).toArray()[0] as number;
    t.true(Math.abs(value(teacher, teacher)) < 1e-6, set);
    // ln 2 between certainty and a coin.
    t.true(Math.abs(value(Tensor.zeros([1, 2]), Tensor.from([80, -80], [1, 2])) - Math.log(2)) < 1e-6, set);
    t.is(value(randomTensor([rows, columns], 1), teacher, { weights: new Float32Array(rows) }), 0);
    const spoilt = teacher.toArray();
    spoilt[4] = NaN;
    const first = Float32Array.from({ length: rows }, (_, row) => (row === 0 ? 1 : 0));
    t.true(Number.isNaN(value(Tensor.from(spoilt, [rows, columns]), teacher, { weights: first })), set);
    t.true(Number.isFinite(value(Tensor.from(spoilt, [rows, columns]), teacher, { weights: first.map((x) => 1 - x) })), set);
  });
  t.throws(() => softmaxDivergence(teacher, Tensor.zeros([rows, 3])), { code: "INVALID_ARGUMENT" });
  t.throws(() => softmaxDivergence(teacher, teacher, { weights: new Float32Array(2) }), {
    code: "INVALID_ARGUMENT",
    message: /9 rows but 2 weights/,
  });
  t.throws(() => softmaxDivergence(teacher, teacher, { temperature: 0 }), { code: "INVALID_ARGUMENT" });
});

test("distance of hidden states", (t) => {
  const teacher = randomTensor([4, 5], 2);
  checkGradients(t, ([x]) => relativeMeanSquare(x as Tensor, teacher), [randomTensor([4, 5], 1)]);
  t.is(relativeMeanSquare(teacher, teacher).toArray()[0], 0);
  t.true(Math.abs((relativeMeanSquare(Tensor.zeros([4, 5]), teacher).toArray()[0] as number) - 1) < 1e-6);
  t.throws(() => relativeMeanSquare(teacher, Tensor.zeros([4, 4])), { code: "INVALID_ARGUMENT", message: /the teacher \(4, 4\)/ });
});
