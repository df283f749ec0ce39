import { assertClose, onlySmall } from "./gpu.js";
import test from "ava";
import {
  ctcLoss,
  deviceCtcLoss,
  deviceScaleSequences,
  DeviceSequences,
  DeviceTensor,
  deviceWeightedSum,
  SequenceOffsets,
  Tape,
  Tensor,
  tidy,
} from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";

/** Losses and gradient of the operation on the CPU. */
function expectedOf(
  logits: Tensor,
  offsets: SequenceOffsets,
  targets: readonly number[][],
  blank = 0,
): { losses: Float32Array; gradient: Float32Array } {
  logits.requiresGrad = true;
  using tape = new Tape();
  const { loss } = tape.record(() => ctcLoss(logits, offsets, targets, { blank, reduction: "none", zeroInfinity: false }));
  tape.backward(loss);
  return { losses: loss.toArray(), gradient: (tape.gradientOf(logits) as Tensor).toArray() };
}

const sum = (lengths: readonly number[]): number => lengths.reduce((a, b) => a + b, 0);

test("loss and gradient are those of the CPU, for long, empty and repeating transcripts", (t) => {
  for (const [which, { vocabulary, scale, lengths, targets, blank = 0 }] of [
    { vocabulary: 2, scale: 1, lengths: [7, 3, 0], targets: [[1], [1, 1], []] },
    { vocabulary: 5, scale: 3, lengths: [6, 0, 9, 4], targets: [[1, 1, 3], [], [2, 3, 2, 2], []], blank: 4 },
    { vocabulary: 33, scale: 5, lengths: [20, 1, 12], targets: [[3, 3, 9, 1, 3], [32], []] },
    {
      vocabulary: 19,
      scale: 1000,
      lengths: [9, 5],
      targets: [
        [1, 2, 3],
        [4, 4],
      ],
    },
    {
      vocabulary: 40,
      scale: 2,
      lengths: [onlySmall ? 20 : 150],
      targets: [Array.from({ length: onlySmall ? 6 : 140 }, (_, i) => 1 + ((i * 7) % 39))],
    },
  ].entries()) {
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const values = randomValues(sum(lengths) * vocabulary, which).map((x) => scale * x);
      using sequences = new DeviceSequences(offsets);
      for (const [type, tolerance] of [
        ["float32", 1e-4],
        ["bfloat16", 2 ** -8],
      ] as const) {
        const logits = DeviceTensor.from(Tensor.from(values, [offsets.frames, vocabulary]), type);
        const expected = expectedOf(logits.toTensor(), offsets, targets, blank);
        const { losses, gradient } = deviceCtcLoss(logits, sequences, targets, { blank, wantsGradient: true });
        assertClose(t, losses.toArray(), expected.losses, 1e-5, `losses of case ${which}, ${type}`);
        assertClose(t, (gradient as DeviceTensor).toArray(), expected.gradient, tolerance, `gradient of case ${which}, ${type}`);
        t.is(gradient?.type, type);
        const again = deviceCtcLoss(logits, sequences, targets, { blank, wantsGradient: true });
        t.deepEqual(again.gradient?.toArray(), gradient?.toArray());
        t.is(deviceCtcLoss(logits, sequences, targets, { blank }).gradient, undefined);
      }
    });
  }
});

test("transcripts that do not fit have infinite loss and no gradient, logits that are not finite give NaN in their own sequence", (t) => {
  const offsets = new SequenceOffsets([3, 2, 0, 5, 4]);
  const targets = [[1, 1], [1, 1], [2], [1, 2], [3]]; // the second needs three frames, the third has none
  const values = randomValues(14 * 4, 5);
  values[11 * 4 + 2] = -Infinity; // of the last
  using sequences = new DeviceSequences(offsets);
  const { losses, gradient } = deviceCtcLoss(DeviceTensor.from(Tensor.from(values, [14, 4]), "float32"), sequences, targets, {
    wantsGradient: true,
  });
  const expected = expectedOf(Tensor.from(values, [14, 4]), offsets, targets);
  const [of, slopes] = [losses.toArray(), gradient?.toArray() as Float32Array];
  t.deepEqual([of[1], of[2], of[4]], [Infinity, Infinity, NaN]);
  assertClose(
    t,
    Float32Array.of(of[0] as number, of[3] as number),
    Float32Array.of(expected.losses[0] as number, expected.losses[3] as number),
    1e-6,
    "losses",
  );
  assertClose(t, slopes.slice(0, 40), expected.gradient.slice(0, 40), 1e-5, "gradient");
  t.true(slopes.subarray(12, 20).every((slope) => slope === 0));
  t.true(slopes.subarray(40).every(Number.isNaN));
});

test("losses are added with weights, and their gradients scaled", (t) => {
  const weights = DeviceTensor.from(Tensor.from([0.5, 2, -1]), "float32");
  t.is(deviceWeightedSum(DeviceTensor.from(Tensor.from([4, Infinity, 1]), "float32"), weights, true).toArray()[0], 1);
  t.is(deviceWeightedSum(DeviceTensor.from(Tensor.from([4, Infinity, 1]), "float32"), weights, false).toArray()[0], Infinity);
  t.true(Number.isNaN(deviceWeightedSum(DeviceTensor.from(Tensor.from([4, NaN, 1]), "float32"), weights, true).toArray()[0]));
  const many = randomValues(100, 1);
  const total = deviceWeightedSum(
    DeviceTensor.from(Tensor.from(many), "float32"),
    DeviceTensor.from(Tensor.from(new Float32Array(100).fill(2)), "float32"),
    true,
  );
  t.true(Math.abs((total.toArray()[0] as number) - 2 * many.reduce((a, b) => a + b)) < 1e-4);

  const lengths = [3, 0, 6];
  using sequences = new DeviceSequences(new SequenceOffsets(lengths));
  const upstream = DeviceTensor.from(Tensor.from([4]), "float32");
  for (const type of ["float32", "bfloat16"] as const) {
    const x = DeviceTensor.from(randomTensor([9, 37], 2), type);
    const before = x.toArray();
    deviceScaleSequences(x, sequences, weights, upstream);
    // Powers of two: nothing is rounded.
    t.deepEqual(
      x.toArray(),
      before.map((value, i) => value * (i < 3 * 37 ? 2 : -4)),
    );
  }
});

test("misuse of the loss is refused", (t) => {
  using sequences = new DeviceSequences(new SequenceOffsets([3, 2]));
  const logits = DeviceTensor.zeros([5, 4]);
  for (const [targets, message] of [
    [[[1]], /2 sequences of logits but 1 targets/],
    [[[1], [0]], /label 0 must be between 0 and 3 and not the blank, 0/],
    [[[1], [4]], /label 4/],
    [[[1], [-1]], /label -1/],
  ] as const) {
    t.throws(() => deviceCtcLoss(logits, sequences, targets), { code: "INVALID_ARGUMENT", message });
  }
  t.throws(() => deviceCtcLoss(logits, sequences, [[1], [1]], { blank: 4 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => deviceCtcLoss(DeviceTensor.zeros([6, 4]), sequences, [[1], [1]]), {
    code: "INVALID_ARGUMENT",
    message: /5 frames but x has 6/,
  });
  t.throws(() => deviceCtcLoss(DeviceTensor.zeros([5, 4], "float16"), sequences, [[1], [1]]), {
    code: "INVALID_ARGUMENT",
    message: /float32 or bfloat16/,
  });
  t.throws(() => deviceCtcLoss(logits, sequences, [Array.from({ length: 40_000 }, () => 1), []]), {
    code: "UNSUPPORTED_SPEC",
    message: /40000 labels/,
  });
  const [one, two] = [DeviceTensor.zeros([1], "float32"), DeviceTensor.zeros([2], "float32")];
  t.throws(() => deviceScaleSequences(logits, sequences, one, one), { code: "INVALID_ARGUMENT", message: /factors must be float32 \(2\)/ });
  t.throws(() => deviceScaleSequences(logits, sequences, two, two), { code: "INVALID_ARGUMENT", message: /upstream/ });
  t.throws(() => deviceWeightedSum(one, two, true), { code: "INVALID_ARGUMENT", message: /weights/ });
});
