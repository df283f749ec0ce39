/** What encoders of samples do on the GPU besides products with weights: operations one by one. */
import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceSequences } from "../lib/device/device_sequences.js";
import { groupedWeightOnGpu, removeFromGpu } from "../lib/device/placement.js";
import {
  deviceGeluInPlace,
  deviceGroupedConvolution,
  deviceInstanceNorm,
  deviceSampleWindows,
} from "../lib/device/sample_encoder_operations.js";
import { DeviceTensor, SequenceOffsets, Tensor, tidy, UsmLiteError } from "../lib/operations.js";
import { scaledSum } from "../lib/ops/elementwise.js";
import { gelu } from "../lib/ops/gelu.js";
import { groupedConvolution } from "../lib/ops/grouped_convolution.js";
import { instanceNorm } from "../lib/ops/instance_norm.js";
import { rotateRows } from "../lib/ops/rotary_embedding.js";
import { subsamplingConvolution } from "../lib/ops/subsampling_convolution.js";
import { floatTypes, rounded } from "./device_products.js";
import { randomTensor, randomValues } from "./gradient.js";

const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };

test("channels are normalized over the frames of their sequence", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const { lengths, channels, mean, size } of [
      { lengths: [1], channels: 1, mean: 0, size: 1 },
      { lengths: [7, 0, 70], channels: 33, mean: 8, size: 0.5 },
      { lengths: [90, 2], channels: 264, mean: 0, size: 1e-3 },
      { lengths: [40], channels: 8, mean: 100, size: 0 }, // constant channels
    ])
      tidy(() => {
        const offsets = new SequenceOffsets(lengths);
        const values = randomValues(offsets.frames * channels, 1).map((value) => mean + size * value);
        const x = rounded(Tensor.from(values, [offsets.frames, channels]), type);
        const [weight, bias] = [randomTensor([channels], 2), randomTensor([channels], 3)];
        const found = instanceNorm(x.device, weight, bias, offsets, 1e-5);
        assertClose(
          t,
          found.toArray(),
          instanceNorm(x.host, weight, bias, offsets, 1e-5).toArray(),
          tolerance,
          `${type} [${lengths.join()}] x ${channels}`,
        );
      });
  }
});

test("GELU keeps zeros between rows, NaN and infinity", (t) => {
  for (const [type, tolerance] of floatTypes) {
    const x = rounded(
      Tensor.from(
        randomValues(5 * 33, 1).map((value) => 6 * value),
        [5, 33],
      ),
      type,
    );
    deviceGeluInPlace(x.device);
    assertClose(t, x.device.toArray(), gelu(x.host).toArray(), tolerance, type);
  }
  const extreme = DeviceTensor.from(Tensor.from([NaN, Infinity, -100, 1e30], [1, 4]));
  deviceGeluInPlace(extreme);
  const [nan = 0, infinite, low, high = 0] = extreme.toArray();
  t.true(Number.isNaN(nan) && infinite === Infinity && low === -0 && Math.abs(high / 1e30 - 1) < 2 ** -7);
});

test("windows of samples make the convolution that the CPU makes", (t) => {
  for (const { lengths, kernel, stride, out } of [
    { lengths: [10], kernel: 10, stride: 5, out: 8 },
    { lengths: [403, 9, 0, 55], kernel: 10, stride: 5, out: 24 },
    { lengths: [40, 17], kernel: 16, stride: 1, out: 3 },
    { lengths: [25], kernel: 3, stride: 4, out: 70 },
  ])
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const [x, weight, bias] = [randomTensor([offsets.frames], 1), randomTensor([out, 1, kernel], 2), randomTensor([out], 3)];
      const found = subsamplingConvolution(DeviceTensor.from(x, "float32"), weight, bias, offsets, { stride });
      const expected = subsamplingConvolution(x.reshape([offsets.frames, 1]), weight, bias, offsets, { stride });
      t.deepEqual(found.offsets.lengths, expected.offsets.lengths);
      assertClose(t, found.output.toArray(), expected.output.toArray(), 1e-2, `[${lengths.join()}], ${kernel} by ${stride} to ${out}`);
      removeFromGpu(weight);
    });
});

test("a convolution in groups stays within its sequences and groups", (t) => {
  for (const { lengths, groups, size, kernel, leftPadding } of [
    { lengths: [1], groups: 1, size: 8, kernel: 1, leftPadding: 0 },
    { lengths: [3, 0, 70, 5], groups: 3, size: 24, kernel: 8, leftPadding: 4 },
    { lengths: [40], groups: 2, size: 16, kernel: 19, leftPadding: 9 },
    { lengths: [6, 2], groups: 2, size: 8, kernel: 128, leftPadding: 127 },
  ])
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const width = groups * size;
      const x = rounded(randomTensor([offsets.frames, width], 1));
      const [weight, bias] = [
        rounded(randomTensor([width * kernel, size], 2)).host.reshape([width, kernel, size]),
        randomTensor([width], 3),
      ];
      const { weights, biases } = groupedWeightOnGpu(weight, bias, groups);
      using sequences = new DeviceSequences(offsets);
      const what = `[${lengths.join()}], ${groups} groups of ${size}, ${kernel} frames`;
      const plain = groupedConvolution(x.host, weight, bias, offsets, { groups, leftPadding });
      assertClose(
        t,
        deviceGroupedConvolution(x.device, weights, sequences, { kernel, leftPadding, biases }).toArray(),
        plain.toArray(),
        2 ** -7,
        what,
      );
      const found = deviceGroupedConvolution(x.device, weights, sequences, {
        kernel,
        leftPadding,
        biases,
        activation: "gelu",
        residual: x.device,
      });
      assertClose(t, found.toArray(), scaledSum(x.host, 1, gelu(plain), 1).toArray(), 2 ** -7, `${what}, added`);
      removeFromGpu(weight);
    });
});

test("rows are rotated in a copy", (t) => {
  const offsets = new SequenceOffsets([5, 30]);
  const x = rounded(randomTensor([35, 32], 1));
  const found = rotateRows(x.device, offsets, 2, 10_000);
  assertClose(t, found.toArray(), rotateRows(x.host, offsets, 2, 10_000).toArray(), 2 ** -7, "rotated");
  t.deepEqual(x.device.toArray(), x.host.toArray());
});

test("misuse of these operations is a coded error", (t) => {
  const sequences = (...lengths: number[]): DeviceSequences => new DeviceSequences(new SequenceOffsets(lengths));
  const samples = DeviceTensor.zeros([20], "float32");
  const windows = (x: DeviceTensor, inputs: DeviceSequences, outputs: DeviceSequences): unknown =>
    deviceSampleWindows(x, inputs, { kernel: 10, stride: 5, outputs });
  t.notThrows(() => windows(samples, sequences(20), sequences(3)));
  t.throws(() => windows(samples, sequences(20), sequences(4)), { ...invalid, message: /windows reach beyond/ });
  t.throws(() => windows(samples, sequences(19), sequences(2)), { ...invalid, message: /have 19 frames but x has 20/ });
  t.throws(() => windows(DeviceTensor.zeros([20, 1], "float32"), sequences(20), sequences(3)), {
    ...invalid,
    message: /samples on the GPU are a vector/,
  });
  t.throws(() => windows(DeviceTensor.zeros([20]), sequences(20), sequences(3)), { ...invalid, message: /must be float32/ });

  const x = DeviceTensor.zeros([4, 16]);
  const vector = DeviceTensor.zeros([16], "float32");
  const normalize = (weight: DeviceTensor, on = sequences(4)): unknown =>
    deviceInstanceNorm(x, on, { weight, bias: vector, epsilon: 1e-5 });
  t.notThrows(() => normalize(vector));
  t.throws(() => normalize(DeviceTensor.zeros([8], "float32")), { ...invalid, message: /weight must have shape/ });
  t.throws(() => normalize(vector, sequences(3)), invalid);
  t.throws(() => deviceGeluInPlace(vector), { ...invalid, message: /x is float32/ });

  const { weights, biases } = groupedWeightOnGpu(randomTensor([16, 3, 8], 1), randomTensor([16], 2), 2);
  const convolve = (change: {
    x?: DeviceTensor;
    weights?: typeof weights;
    biases?: typeof biases;
    kernel?: number;
    leftPadding?: number;
    residual?: DeviceTensor;
  }): unknown =>
    deviceGroupedConvolution(change.x ?? x, change.weights ?? weights, sequences(4), { kernel: 3, leftPadding: 1, biases, ...change });
  t.notThrows(() => convolve({}));
  t.throws(() => convolve({ weights: [] }), { ...invalid, message: /0 groups cannot share/ });
  t.throws(() => convolve({ x: DeviceTensor.zeros([4, 15]) }), { ...invalid, message: /cannot share equally/ });
  t.throws(() => convolve({ x: DeviceTensor.zeros([4, 24]) }), { code: "UNSUPPORTED_SPEC", message: /multiples of 8/ });
  t.throws(() => convolve({ kernel: 4 }), { ...invalid, message: /must be \(8, 32\)/ });
  t.throws(() => convolve({ leftPadding: 3 }), invalid);
  t.throws(() => convolve({ biases: biases.slice(1) }), { ...invalid, message: /as many as weights/ });
  t.throws(() => convolve({ residual: DeviceTensor.zeros([4, 8]) }), { ...invalid, message: /residual must have shape/ });
  t.throws(() => convolve({ x: DeviceTensor.zeros([4, 16], "float16") }), { ...invalid, message: /multiplies bfloat16 but x is float16/ });
});
