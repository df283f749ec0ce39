import { assertClose } from "./gpu.js";
import test from "ava";
import {
  batchNorm,
  deviceGatherWindows,
  DeviceSequences,
  DeviceTensor,
  layerNorm,
  SequenceOffsets,
  Tensor,
  UsmLiteError,
} from "../lib/operations.js";
import {
  deviceDepthwiseConvolutionBackward,
  deviceGatherWindowsBackward,
  devicePlaneConvolutionBackward,
} from "../lib/device/convolution_gradients.js";
import { deviceBatchNorm, deviceBatchNormBackward, deviceLayerNormBackward } from "../lib/device/gradient_operations.js";
import { gradientsOnCpu } from "./device_gradients.js";
import { randomTensor, randomValues } from "./gradient.js";

/** How far results are rounded, to bfloat16. */
const tolerance = 2 ** -8;
const all = { wantsX: true, wantsWeight: true, wantsBias: true };

test("gradients of layer normalization", (t) => {
  for (const [frames, hidden] of [
    [1, 1],
    [3, 7],
    [37, 192],
    [5, 1030],
  ] as const) {
    const what = `${frames} x ${hidden}`;
    const x = DeviceTensor.from(
      Tensor.from(
        randomValues(frames * hidden, 1).map((v) => 5 + 3 * v),
        [frames, hidden],
      ),
    );
    const [weight, bias] = [
      DeviceTensor.from(randomTensor([hidden], 2), "float32"),
      DeviceTensor.from(randomTensor([hidden], 3), "float32"),
    ];
    const gradient = DeviceTensor.from(randomTensor([frames, hidden], 4));
    const expected = gradientsOnCpu([x, weight, bias], gradient, ([a, w, b]) =>
      layerNorm(a as Tensor, w as Tensor, { bias: b, epsilon: 1e-5 }),
    );
    const actual = deviceLayerNormBackward(x, weight, gradient, { epsilon: 1e-5, ...all });
    if (hidden > 1) assertClose(t, (actual.x as DeviceTensor).toArray(), expected[0] as Float32Array, tolerance, `x, ${what}`);
    assertClose(t, (actual.weight as DeviceTensor).toArray(), expected[1] as Float32Array, 1e-5, `weight, ${what}`);
    assertClose(t, (actual.bias as DeviceTensor).toArray(), expected[2] as Float32Array, 1e-5, `bias, ${what}`);
    const sum = DeviceTensor.from(randomTensor([frames, hidden], 5));
    const before = sum.toArray();
    const added = deviceLayerNormBackward(x, weight, gradient, { epsilon: 1e-5, ...all, sum });
    t.is(added.x, undefined);
    const ofX = (actual.x as DeviceTensor).toArray();
    const whole = before.map((value, i) => value + (ofX[i] as number));
    if (hidden > 1) assertClose(t, sum.toArray(), whole, tolerance, `x added up, ${what}`);
    const again = deviceLayerNormBackward(x, weight, gradient, { epsilon: 1e-5, wantsX: false, wantsWeight: true, wantsBias: false });
    t.is(again.x, undefined);
    t.deepEqual(again.weight?.toArray(), actual.weight?.toArray());
  }
});

test("batch normalization and its gradients", (t) => {
  for (const { frames, channels, silu, training } of [
    { frames: 2, channels: 3, silu: false, training: true },
    { frames: 150, channels: 40, silu: true, training: true },
    { frames: 9, channels: 264, silu: true, training: false },
  ]) {
    const what = `${frames} x ${channels}`;
    const x = DeviceTensor.from(
      Tensor.from(
        randomValues(frames * channels, 1).map((v) => 20 + 3 * v),
        [frames, channels],
      ),
    );
    const [weight, bias, mean, spread] = [1, 2, 3, 4].map((seed) => randomTensor([channels], seed)) as [Tensor, Tensor, Tensor, Tensor];
    const variance = Tensor.from(
      spread.toArray().map((v) => 4 + v),
      [channels],
    );
    const shift = Tensor.from(
      mean.toArray().map((v) => 20 + v),
      [channels],
    );
    const [w, b, runningMean, runningVariance] = [weight, bias, shift, variance].map((v) => DeviceTensor.from(v, "float32")) as [
      DeviceTensor,
      DeviceTensor,
      DeviceTensor,
      DeviceTensor,
    ];
    const gradient = DeviceTensor.from(randomTensor([frames, channels], 5));
    let y: Float32Array | undefined;
    const expected = gradientsOnCpu([x, w, b], gradient, ([a, c, d]) => {
      const result = batchNorm(a as Tensor, c as Tensor, d as Tensor, {
        epsilon: 1e-5,
        activation: silu ? "silu" : "none",
        training,
        momentum: 0.1,
        runningMean: shift,
        runningVariance: variance,
      });
      y = result.toArray();
      return result;
    });
    const forward = deviceBatchNorm(x, w, b, { epsilon: 1e-5, silu, training, momentum: 0.1, runningMean, runningVariance });
    assertClose(t, forward.y.toArray(), y as Float32Array, tolerance, `y, ${what}`);
    assertClose(t, runningMean.toArray(), shift.toArray(), 1e-6, `running mean, ${what}`);
    assertClose(t, runningVariance.toArray(), variance.toArray(), 1e-5, `running variance, ${what}`);
    const actual = deviceBatchNormBackward(x, w, b, forward.mean, forward.reciprocalDeviation, gradient, { silu, training });
    if (frames > 2) assertClose(t, actual.x.toArray(), expected[0] as Float32Array, tolerance, `x, ${what}`);
    assertClose(t, actual.weight.toArray(), expected[1] as Float32Array, 2e-4, `weight, ${what}`);
    assertClose(t, actual.bias.toArray(), expected[2] as Float32Array, 2e-4, `bias, ${what}`);
  }
});

test("gradients of windows return to their frames", (t) => {
  for (const { lengths, kernel, stride } of [
    { lengths: [11, 0, 4, 6], kernel: 5, stride: 2 },
    { lengths: [7], kernel: 2, stride: 3 },
    { lengths: [3], kernel: 1, stride: 1 },
  ]) {
    const outputsOf = lengths.map((length) => (length < kernel ? 0 : Math.floor((length - kernel) / stride) + 1));
    const [offsets, outputOffsets] = [new SequenceOffsets(lengths), new SequenceOffsets(outputsOf)];
    using sequences = new DeviceSequences(offsets);
    using outputs = new DeviceSequences(outputOffsets);
    const x = DeviceTensor.from(randomTensor([offsets.frames, 16], 1));
    const gradient = DeviceTensor.from(randomTensor([outputOffsets.frames, kernel * 16], 2));
    const back = deviceGatherWindowsBackward(gradient, sequences, { kernel, stride, outputs }).toArray();
    // Every value goes back to where the windows took it from.
    const expected = new Float64Array(offsets.frames * 16);
    const values = gradient.toArray();
    let from = 0;
    let window = 0;
    lengths.forEach((length, s) => {
      for (let i = 0; i < (outputsOf[s] as number); i++, window++) {
        for (let j = 0; j < kernel * 16; j++)
          (expected[(from + i * stride) * 16 + j] as number) += values[window * kernel * 16 + j] as number;
      }
      from += length;
    });
    assertClose(t, back, Float32Array.from(expected), tolerance, `[${lengths.join(", ")}]`);
    // <gather(x), g> = <x, gather'(g)>: the one is the other's transpose.
    const forward = deviceGatherWindows(x, sequences, { kernel, stride, outputs }).toArray();
    const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, v, i) => sum + v * (b[i] as number), 0);
    t.true(Math.abs(dot(forward, values) - dot(x.toArray(), back)) < 0.2);
  }
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const x = DeviceTensor.zeros([4, 16]);
  const weight = DeviceTensor.zeros([16], "float32");
  using sequences = new DeviceSequences(new SequenceOffsets([4]));
  const narrow = DeviceTensor.zeros([4, 16], "float16");
  t.throws(() => deviceLayerNormBackward(narrow, weight, narrow, { epsilon: 1e-5, ...all }), {
    ...invalid,
    message: /x is float16; it must be bfloat16 in training/,
  });
  t.throws(() => deviceLayerNormBackward(x, x, x, { epsilon: 1e-5, ...all }), { ...invalid, message: /weight is bfloat16/ });
  t.throws(
    () =>
      deviceLayerNormBackward(DeviceTensor.zeros([1, 4104]), DeviceTensor.zeros([4104], "float32"), DeviceTensor.zeros([1, 4104]), {
        epsilon: 1e-5,
        ...all,
      }),
    {
      code: "UNSUPPORTED_SPEC",
      message: /4104 values/,
    },
  );
  const running = { runningMean: weight, runningVariance: weight, epsilon: 1e-5, momentum: 0.1, silu: false, training: true };
  t.throws(() => deviceBatchNorm(DeviceTensor.zeros([1, 16]), weight, weight, running), { ...invalid, message: /at least 2 frames/ });
  t.throws(
    () => deviceDepthwiseConvolutionBackward(x, DeviceTensor.zeros([16, 3], "float32"), sequences, x, { leftPadding: 3, ...all }),
    invalid,
  );
  const plane = { features: 16, stride: 1, padding: 1, outputs: sequences, ...all };
  const [taps, above] = [DeviceTensor.zeros([8, 9], "float32"), DeviceTensor.zeros([4, 128])];
  t.throws(() => devicePlaneConvolutionBackward(x, taps, sequences, above, { ...plane, activation: "relu" }), {
    ...invalid,
    message: /y is needed/,
  });
  t.throws(() => devicePlaneConvolutionBackward(x, taps, sequences, x, plane), {
    ...invalid,
    message: /gradient must have shape \(4, 128\)/,
  });
  t.throws(() => deviceGatherWindowsBackward(x, sequences, { kernel: 3, stride: 1, outputs: sequences }), {
    code: "UNSUPPORTED_SPEC",
    message: /16 values/,
  });
});
