import test from "ava";
import { depthwiseConvolution, SequenceOffsets, Tape, Tensor } from "../lib/operations.js";
import { checkGradients, randomTensor } from "./gradient.js";
import { agreeOnAllInstructionSets } from "./instruction_sets.js";

test("depthwiseConvolution pads each sequence by itself", (t) => {
  const x = Tensor.from([1, 2, 3, 10, 20], [5, 1]);
  const offsets = new SequenceOffsets([3, 0, 2]);
  // An even kernel of 4 pads 1 before and 2 behind: y[t] = 1000 x[t-1] + 100 x[t] + 10 x[t+1] + x[t+2]
  const y = depthwiseConvolution(x, Tensor.from([1000, 100, 10, 1], [1, 1, 4]), offsets);
  t.deepEqual([...y.toArray()], [123, 1230, 2300, 1200, 12000]);
  const causal = depthwiseConvolution(x, Tensor.from([100, 10, 1], [1, 3]), offsets, { leftPadding: 2, bias: Tensor.from([5]) });
  t.deepEqual([...causal.toArray()], [6, 17, 128, 15, 125]);
});

const cases = [
  { lengths: [1], channels: 1, kernel: 1 },
  { lengths: [5, 2], channels: 3, kernel: 4 },
  { lengths: [40, 1, 0, 70], channels: 16, kernel: 9 },
  { lengths: [13, 300], channels: 44, kernel: 32 },
  { lengths: [129], channels: 176, kernel: 31 },
];

test("depthwiseConvolution and its gradients agree on every instruction set", (t) => {
  for (const { lengths, channels, kernel } of cases) {
    const offsets = new SequenceOffsets(lengths);
    agreeOnAllInstructionSets(t, `[${lengths.join(", ")}] x ${channels}, kernel ${kernel}`, () => {
      const x = randomTensor([offsets.frames, channels], 1);
      const weight = randomTensor([channels, 1, kernel], 2);
      const bias = randomTensor([channels], 3);
      for (const input of [x, weight, bias]) input.requiresGrad = true;
      const tape = new Tape();
      const y = tape.record(() => depthwiseConvolution(x, weight, offsets, { bias }));
      tape.backward(y, randomTensor(y.shape, 4));
      const activated = depthwiseConvolution(x, weight, offsets, { bias, activation: "silu" });
      return [y, activated, ...[x, weight, bias].map((input) => tape.gradientOf(input) as Tensor)];
    });
  }
});

test("depthwiseConvolution has the right gradients", (t) => {
  const offsets = new SequenceOffsets([6, 3]);
  const inputs = [randomTensor([9, 5], 1), randomTensor([5, 4], 2), randomTensor([5], 3)];
  for (const activation of ["none", "silu"] as const) {
    checkGradients(t, ([x, weight, bias]) => depthwiseConvolution(x as Tensor, weight as Tensor, offsets, { bias, activation }), inputs);
  }
});

test("a sequence gives the same frames whatever else is in the batch", (t) => {
  const weight = randomTensor([20, 8], 1);
  const x = randomTensor([150, 20], 2);
  const together = depthwiseConvolution(x, weight, new SequenceOffsets([7, 140, 3]))
    .rows(7, 147)
    .toArray();
  const alone = depthwiseConvolution(x.rows(7, 147), weight, new SequenceOffsets([140])).toArray();
  t.deepEqual(together, alone);
});

test("depthwiseConvolution refuses operands that do not fit", (t) => {
  const x = Tensor.zeros([4, 2]);
  const offsets = new SequenceOffsets([4]);
  t.throws(() => depthwiseConvolution(x, Tensor.zeros([3, 5]), offsets), { code: "INVALID_ARGUMENT", message: /2 channels/ });
  t.throws(() => depthwiseConvolution(x, Tensor.zeros([2, 2, 5]), offsets), { code: "INVALID_ARGUMENT" });
  t.throws(() => depthwiseConvolution(x, Tensor.zeros([2, 5]), new SequenceOffsets([3])), {
    code: "INVALID_ARGUMENT",
    message: /end with the number of frames, 4/,
  });
  t.throws(() => depthwiseConvolution(x, Tensor.zeros([2, 5]), offsets, { leftPadding: 5 }), {
    code: "INVALID_ARGUMENT",
    message: /leftPadding/,
  });
});
