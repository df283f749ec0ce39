import test from "ava";
import {
  availableInstructionSets,
  PackedMatrix,
  packedSubsamplingConvolution,
  packWeight,
  SequenceOffsets,
  setInstructionSet,
  subsamplingConvolution,
  Tape,
  Tensor,
  unpackWeight,
  UsmLiteError,
} from "../lib/operations.js";
import { checkGradients, randomTensor } from "./gradient.js";

test.afterEach(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

/** Lengths of the sequences, channels in and out, kernel, stride: shorter than the kernel, empty, odd, with gaps. */
const cases: [lengths: number[], inputs: number, outputs: number, kernel: number, stride: number][] = [
  [[9], 4, 3, 5, 2],
  [[4, 0, 5, 13, 6], 7, 9, 5, 2],
  [[3], 2, 2, 5, 2],
  [[20, 31], 16, 33, 3, 3],
  [[20, 31], 5, 6, 2, 4],
  [[1, 2, 3], 3, 4, 1, 1],
  [[150, 97, 203], 24, 40, 5, 2],
];

test("subsamplingConvolution and its gradients agree with the reference", (t) => {
  for (const [lengths, inputs, outputs, kernel, stride] of cases) {
    const offsets = new SequenceOffsets(lengths);
    const x = randomTensor([offsets.frames, inputs], 1);
    const weight = randomTensor([outputs, inputs, kernel], 2);
    const bias = randomTensor([outputs], 3);
    for (const tensor of [x, weight, bias]) tensor.requiresGrad = true;
    const compute = (): Float32Array[] => {
      using tape = new Tape();
      const { output } = tape.record(() => subsamplingConvolution(x, weight, bias, offsets, { stride, activation: "relu" }));
      const values = output.toArray();
      tape.backward(output, randomTensor(output.shape, 4));
      return [values, ...[x, weight, bias].map((tensor) => tape.gradientOf(tensor)?.toArray() ?? new Float32Array())];
    };
    setInstructionSet("reference");
    const expected = compute();
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      compute().forEach((values, which) => {
        const wanted = expected[which] as Float32Array;
        t.is(values.length, wanted.length);
        const worst = values.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (wanted[i] as number))), 0);
        t.true(worst < 2e-4, `${set}, result ${which}, lengths ${lengths}: ${worst}`);
      });
    }
  }
});

test("an output frame is the weighted sum of its window", (t) => {
  const offsets = new SequenceOffsets([5, 4]);
  const x = Tensor.from([1, 2, 3, 4, 5, 10, 20, 30, 40], [9, 1]);
  const weight = Tensor.from([1, 10, 100], [1, 1, 3]);
  const result = subsamplingConvolution(x, weight, Tensor.from([0.5]), offsets, { stride: 2 });
  t.deepEqual([...result.output.toArray()], [321.5, 543.5, 3210.5]);
  t.deepEqual(result.offsets.lengths, [2, 1]);
});

test("a sequence's result does not depend on the rest of the batch", (t) => {
  const lengths = [61, 34, 150];
  const offsets = new SequenceOffsets(lengths);
  const x = randomTensor([offsets.frames, 12], 1);
  const weight = randomTensor([20, 12, 5], 2);
  const whole = subsamplingConvolution(x, weight, undefined, offsets, { stride: 2, activation: "relu" });
  lengths.forEach((length, index) => {
    const begin = offsets.begin(index);
    const alone = subsamplingConvolution(x.rows(begin, begin + length), weight, undefined, new SequenceOffsets([length]), {
      stride: 2,
      activation: "relu",
    });
    const at = whole.offsets.begin(index);
    t.deepEqual(alone.output.toArray(), whole.output.rows(at, at + alone.offsets.frames).toArray());
  });
});

test("gradients of subsamplingConvolution", (t) => {
  const offsets = new SequenceOffsets([7, 4, 10]);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const [kernel, stride] of [
      [5, 2],
      [3, 3],
      [2, 3],
    ] as const) {
      for (const activation of ["none", "relu"] as const) {
        checkGradients(
          t,
          ([x, weight, bias]) => subsamplingConvolution(x as Tensor, weight as Tensor, bias, offsets, { stride, activation }).output,
          [randomTensor([21, 3], 1), randomTensor([4, 3, kernel], 2), randomTensor([4], 5)],
          { step: 2e-3 },
        );
      }
    }
  }
});

test("misuse of subsamplingConvolution is a coded error", (t) => {
  const offsets = new SequenceOffsets([9]);
  const x = Tensor.zeros([9, 4]);
  const weight = Tensor.zeros([3, 4, 5]);
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" } as const;
  t.throws(() => subsamplingConvolution(x, Tensor.zeros([3, 5, 5]), undefined, offsets, { stride: 2 }), invalid);
  t.throws(() => subsamplingConvolution(x, Tensor.zeros([3, 4]), undefined, offsets, { stride: 2 }), invalid);
  t.throws(() => subsamplingConvolution(x, weight, Tensor.zeros([4]), offsets, { stride: 2 }), invalid);
  t.throws(() => subsamplingConvolution(x, weight, undefined, new SequenceOffsets([8]), { stride: 2 }), {
    ...invalid,
    message: /end with the number of frames, 9/,
  });
  t.throws(() => subsamplingConvolution(x, weight, undefined, offsets, { stride: 0 }), invalid);
  t.throws(() => subsamplingConvolution(x, weight, undefined, offsets, { stride: 1.5 }), invalid);
  t.throws(() => subsamplingConvolution(x, weight, undefined, offsets, { stride: 2, activation: "silu" as "relu" }), {
    ...invalid,
    message: /none or relu/,
  });
});

test("a packed convolution computes what its unpacked weight computes", (t) => {
  for (const [lengths, inputs, outputs, kernel, stride] of cases) {
    const offsets = new SequenceOffsets(lengths);
    const x = randomTensor([offsets.frames, inputs], 1);
    const bias = randomTensor([outputs], 3);
    const options = { stride, activation: "relu" } as const;
    for (const spec of ["int8", "int4", "int4/g32", "int4+2:4", "2:4"]) {
      const packed = packWeight(randomTensor([outputs, inputs, kernel], 2), spec);
      const { output: expected, offsets: expectedOffsets } = subsamplingConvolution(x, unpackWeight(packed).weight, bias, offsets, options);
      using matrix = PackedMatrix.from(packed);
      for (const set of availableInstructionSets()) {
        setInstructionSet(set);
        const { output, offsets: outputOffsets } = packedSubsamplingConvolution(x, matrix, bias, offsets, options);
        t.deepEqual(outputOffsets.lengths, expectedOffsets.lengths);
        t.deepEqual(output.shape, expected.shape);
        const wanted = expected.toArray();
        const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
        const worst = output.toArray().reduce((most, value, i) => Math.max(most, Math.abs(value - (wanted[i] as number))), 0);
        // Windows are rounded to 127 steps of their largest magnitude.
        t.true(worst <= largest * (spec === "2:4" ? 1e-5 : 0.02), `${set} ${spec}, lengths ${lengths}: ${worst} of ${largest}`);
      }
      setInstructionSet(availableInstructionSets().at(-1) ?? "reference");
    }
  }
});

test("a packed convolution refuses frames that its windows are not made of", (t) => {
  using matrix = PackedMatrix.from(packWeight(randomTensor([3, 4, 5], 1), "int8"));
  const convolve = (features: number): unknown =>
    packedSubsamplingConvolution(randomTensor([9, features], 2), matrix, undefined, new SequenceOffsets([9]), { stride: 2 });
  t.throws(() => convolve(3), { code: "INVALID_ARGUMENT", message: /windows of 20 values, which is no multiple of the 3 features/ });
  matrix.dispose();
  t.throws(() => convolve(4), { code: "TENSOR_RELEASED" });
});
