import test from "ava";
import { batchNorm, depthwiseConvolution, foldBatchNorm, SequenceOffsets, Tape, Tensor, type BatchNormOptions } from "../lib/operations.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets, relativeDifference } from "./instruction_sets.js";

const positive = (count: number, seed: number): Tensor => Tensor.from(randomValues(count, seed).map((v) => 1.5 + v));

function options(channels: number, overrides: Partial<BatchNormOptions> = {}): BatchNormOptions {
  return {
    epsilon: 1e-5,
    training: true,
    momentum: 0.1,
    runningMean: randomTensor([channels], 7),
    runningVariance: positive(channels, 8),
    ...overrides,
  };
}

test("batchNorm measures the batch and moves the running statistics as torch does", (t) => {
  const state = options(1, { epsilon: 0, runningMean: Tensor.from([0]), runningVariance: Tensor.from([1]), momentum: 0.25 });
  const y = batchNorm(Tensor.from([1, 2, 3, 6], [4, 1]), Tensor.from([2]), Tensor.from([1]), state).toArray();
  // mean 3, biased variance 3.5, unbiased 14/3
  [1, 2, 3, 6].forEach((x, i) => t.true(Math.abs((y[i] as number) - (((x - 3) / Math.sqrt(3.5)) * 2 + 1)) < 1e-5));
  t.true(Math.abs((state.runningMean.toArray()[0] as number) - 0.75) < 1e-6);
  t.true(Math.abs((state.runningVariance.toArray()[0] as number) - (0.75 + (0.25 * 14) / 3)) < 1e-5);
});

for (const training of [true, false]) {
  for (const activation of ["none", "silu"] as const) {
    const label = `batchNorm with training ${training} and activation ${activation}`;
    test(`${label} agrees on every instruction set`, (t) => {
      for (const [frames, channels] of [
        [2, 1],
        [9, 5],
        [70, 33],
        [200, 176],
      ] as const) {
        agreeOnAllInstructionSets(
          t,
          `(${frames}, ${channels})`,
          () => {
            const x = randomTensor([frames, channels], 1);
            const [weight, bias] = [randomTensor([channels], 2), randomTensor([channels], 3)];
            for (const input of [x, weight, bias]) input.requiresGrad = true;
            const state = options(channels, { training, activation });
            const tape = new Tape();
            const y = tape.record(() => batchNorm(x, weight, bias, state));
            tape.backward(y, randomTensor([frames, channels], 4));
            const gradients = [x, weight, bias].map((input) => tape.gradientOf(input) as Tensor);
            return [y, state.runningMean, state.runningVariance, ...(frames > 2 ? gradients : [])];
          },
          5e-5,
        );
      }
    });

    test(`${label} has the right gradients`, (t) => {
      const state = options(6, { training, activation, momentum: 0 });
      checkGradients(t, ([x, weight, bias]) => batchNorm(x as Tensor, weight as Tensor, bias as Tensor, state), [
        randomTensor([11, 6], 1),
        randomTensor([6], 2),
        randomTensor([6], 3),
      ]);
    });
  }
}

test("foldBatchNorm gives the convolution that does both", (t) => {
  const offsets = new SequenceOffsets([20, 5]);
  const x = randomTensor([25, 10], 1);
  const weight = randomTensor([10, 1, 8], 2);
  const norm = {
    weight: randomTensor([10], 3),
    bias: randomTensor([10], 4),
    runningMean: randomTensor([10], 5),
    runningVariance: positive(10, 6),
    epsilon: 1e-5,
  };
  for (const bias of [undefined, randomTensor([10], 9)]) {
    const expected = batchNorm(depthwiseConvolution(x, weight, offsets, { bias }), norm.weight, norm.bias, {
      ...norm,
      training: false,
      momentum: 0.1,
      activation: "silu",
    });
    const folded = foldBatchNorm(weight, bias, norm);
    t.deepEqual(folded.weight.shape, weight.shape);
    const actual = depthwiseConvolution(x, folded.weight, offsets, { bias: folded.bias, activation: "silu" });
    t.true(relativeDifference(actual.toArray(), expected.toArray()) < 1e-5);
  }
});

test("batchNorm refuses operands that do not fit", (t) => {
  const ones = Tensor.from([1, 1]);
  t.throws(() => batchNorm(Tensor.zeros([1, 2]), ones, ones, options(2)), { code: "INVALID_ARGUMENT", message: /at least 2 frames/ });
  t.throws(() => batchNorm(Tensor.zeros([3, 2]), ones, ones, options(3)), { code: "INVALID_ARGUMENT", message: /runningMean/ });
});
