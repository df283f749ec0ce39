import { assertClose } from "./gpu.js";
import test from "ava";
import {
  depthwiseConvolution,
  deviceAttention,
  deviceDepthwiseConvolution,
  deviceGlu,
  deviceLayerNorm,
  deviceLayerNormTwice,
  deviceLogSoftmax,
  deviceRotateHeads,
  DeviceSequences,
  DeviceTensor,
  glu,
  layerNorm,
  SequenceOffsets,
  Tensor,
  UsmLiteError,
} from "../lib/operations.js";
import { logSoftmax } from "../lib/ops/softmax.js";
import { floatTypes, rounded } from "./device_products.js";
import { randomTensor, randomValues } from "./gradient.js";

test("layer normalization", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const [frames, hidden] of [
      [1, 1],
      [3, 7],
      [5, 192],
      [9, 1030],
    ] as const) {
      const x = rounded(
        Tensor.from(
          randomValues(frames * hidden, 1).map((v) => 5 + 3 * v),
          [frames, hidden],
        ),
        type,
      );
      const [weight, bias] = [randomTensor([hidden], 2), randomTensor([hidden], 3)];
      const onGpu = { weight: DeviceTensor.from(weight, "float32"), bias: DeviceTensor.from(bias, "float32") };
      const y = deviceLayerNorm(x.device, onGpu.weight, { bias: onGpu.bias, epsilon: 1e-5 });
      assertClose(
        t,
        y.toTensor().toArray(),
        layerNorm(x.host, weight, { bias, epsilon: 1e-5 }).toArray(),
        tolerance,
        `${type} ${frames} x ${hidden}`,
      );
      const plain = deviceLayerNorm(x.device, onGpu.weight, { epsilon: 1e-5 });
      const both = deviceLayerNormTwice(x.device, onGpu.weight, { next: onGpu, epsilon: 1e-5 });
      const apart = [plain, deviceLayerNorm(plain, onGpu.weight, { bias: onGpu.bias, epsilon: 1e-5 })];
      t.deepEqual(
        both.map((y) => y.toArray()),
        apart.map((y) => y.toArray()),
        "one after the other",
      );
      assertClose(t, plain.toTensor().toArray(), layerNorm(x.host, weight, { epsilon: 1e-5 }).toArray(), tolerance, `${type} without bias`);
    }
  }
});

test("logarithms of probabilities", (t) => {
  for (const [type] of floatTypes) {
    for (const [frames, classes] of [
      [1, 1],
      [5, 33],
      [3, 1030],
    ] as const) {
      const x = rounded(
        Tensor.from(
          randomValues(frames * classes, 4).map((v) => 30 * v),
          [frames, classes],
        ),
        type,
      );
      assertClose(t, deviceLogSoftmax(x.device).toTensor().toArray(), logSoftmax(x.host).toArray(), 1e-6, `${type} ${frames} x ${classes}`);
    }
  }
  const extremes = DeviceTensor.from(Tensor.from([3e38, 0, -3e38, -Infinity, 0, 0, NaN, 0], [2, 4]));
  const [first, second] = [
    deviceLogSoftmax(extremes).toTensor().toArray().subarray(0, 4),
    deviceLogSoftmax(extremes).toTensor().toArray().subarray(4),
  ];
  t.deepEqual([first[0], first[3]], [0, -Infinity]);
  t.true(second.every(Number.isNaN));
});

test("gated linear unit", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const [frames, channels] of [
      [1, 1],
      [4, 33],
      [3, 256],
    ] as const) {
      const x = rounded(
        Tensor.from(
          randomValues(frames * 2 * channels, 4).map((v) => 4 * v),
          [frames, 2 * channels],
        ),
        type,
      );
      assertClose(t, deviceGlu(x.device).toTensor().toArray(), glu(x.host).toArray(), tolerance, `${type} ${frames} x ${channels}`);
    }
  }
});

test("depthwise convolution stays within its sequence", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const [lengths, channels, kernel, leftPadding] of [
      [[1], 1, 1, 0],
      [[5, 0, 70, 3], 66, 15, undefined],
      [[130], 7, 9, 8],
      [[64, 65], 130, 4, 0],
    ] as const) {
      const offsets = new SequenceOffsets(lengths);
      const x = rounded(randomTensor([offsets.frames, channels], 5), type);
      const [weight, bias] = [randomTensor([channels, kernel], 6), randomTensor([channels], 7)];
      const onGpu = { weight: DeviceTensor.from(weight, "float32"), bias: DeviceTensor.from(bias, "float32") };
      using sequences = new DeviceSequences(offsets);
      for (const activation of ["none", "silu"] as const) {
        const options = { activation, ...(leftPadding !== undefined && { leftPadding }) };
        const y = deviceDepthwiseConvolution(x.device, onGpu.weight, sequences, { bias: onGpu.bias, ...options });
        const expected = depthwiseConvolution(x.host, weight, offsets, { bias, ...options });
        assertClose(
          t,
          y.toTensor().toArray(),
          expected.toArray(),
          tolerance,
          `${type} [${lengths.join(", ")}] x ${channels}, kernel ${kernel}`,
        );
      }
    }
  }
});

test("a gated linear unit before a depthwise convolution, in one pass, has the bits of two", (t) => {
  for (const [type] of floatTypes) {
    for (const [lengths, channels, kernel] of [
      [[3, 0, 70], 66, 9],
      [[5], 2, 4],
    ] as const) {
      const offsets = new SequenceOffsets(lengths);
      using sequences = new DeviceSequences(offsets);
      const x = rounded(randomTensor([offsets.frames, 2 * channels], 8), type).device;
      const weight = DeviceTensor.from(randomTensor([channels, kernel], 9), "float32");
      t.deepEqual(
        deviceDepthwiseConvolution(x, weight, sequences, { activation: "silu", gated: true }).toArray(),
        deviceDepthwiseConvolution(deviceGlu(x), weight, sequences, { activation: "silu" }).toArray(),
      );
    }
  }
});

test("NaN and infinity come out where they belong", (t) => {
  const offsets = new SequenceOffsets([3, 3]);
  using sequences = new DeviceSequences(offsets);
  const values = randomValues(6 * 16, 1);
  values[0] = NaN;
  const x = DeviceTensor.from(Tensor.from(values, [6, 16]));
  const out = deviceAttention(x, x, x, sequences, { heads: 1 }).toTensor().toArray();
  t.true(out.subarray(0, 48).some(Number.isNaN));
  t.true(out.subarray(48).every(Number.isFinite));
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const x = DeviceTensor.zeros([4, 12]);
  const weight = DeviceTensor.zeros([12], "float32");
  using sequences = new DeviceSequences(new SequenceOffsets([4]));
  using others = new DeviceSequences(new SequenceOffsets([5]));
  t.throws(() => deviceLayerNorm(x, x, { epsilon: 1e-5 }), { ...invalid, message: /weight is bfloat16; it must be float32/ });
  t.throws(() => deviceLayerNorm(x, DeviceTensor.zeros([11], "float32"), { epsilon: 1e-5 }), {
    ...invalid,
    message: /weight must have shape \(12\)/,
  });
  t.throws(() => deviceLayerNorm(weight, weight, { epsilon: 1e-5 }), { ...invalid, message: /x is float32/ });
  t.throws(() => deviceGlu(DeviceTensor.zeros([2, 5])), { ...invalid, message: /5 columns/ });
  t.throws(() => deviceDepthwiseConvolution(x, DeviceTensor.zeros([12, 3], "float32"), others), {
    ...invalid,
    message: /5 frames but x has 4/,
  });
  t.throws(() => deviceDepthwiseConvolution(x, DeviceTensor.zeros([12, 129], "float32"), sequences), {
    code: "UNSUPPORTED_SPEC",
    message: /129 frames/,
  });
  t.throws(
    () => deviceDepthwiseConvolution(DeviceTensor.zeros([4, 6]), DeviceTensor.zeros([3, 3], "float32"), sequences, { gated: true }),
    {
      ...invalid,
      message: /6 columns; values and gates must be as many, an even number each/,
    },
  );
  t.throws(() => deviceAttention(x, x, x, sequences, { heads: 5 }), { ...invalid, message: /5 heads of equal size/ });
  t.throws(() => deviceAttention(x, x, x, sequences, { heads: 3 }), { code: "UNSUPPORTED_SPEC", message: /heads have 4 values/ });
  const wide = DeviceTensor.zeros([4, 16]);
  t.throws(() => deviceAttention(wide, wide, DeviceTensor.zeros([4, 16], "float16"), sequences, { heads: 1 }), {
    ...invalid,
    message: /value is float16/,
  });
  t.throws(() => deviceRotateHeads(x, sequences, { heads: 4, theta: 10000 }), { ...invalid, message: /even head size but it is 3/ });
  t.throws(() => deviceRotateHeads(x, sequences, { heads: 1, theta: 10000, key: DeviceTensor.zeros([4, 24]) }), {
    ...invalid,
    message: /key must have shape \(4, 12\)/,
  });
  sequences.dispose();
  t.throws(() => deviceRotateHeads(x, sequences, { heads: 1, theta: 10000 }), { code: "TENSOR_RELEASED" });
});
