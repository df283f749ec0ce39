import { assertClose } from "./gpu.js";
import test from "ava";
import {
  depthwiseConvolution,
  devicePlaneConvolution,
  DeviceSequences,
  DeviceTensor,
  SequenceOffsets,
  Tape,
  Tensor,
} from "../lib/operations.js";
import { deviceDepthwiseConvolutionBackward, devicePlaneConvolutionBackward } from "../lib/device/convolution_gradients.js";
import { convolvedLength, planeConvolution } from "../lib/ops/plane_convolution.js";
import { reshape } from "../lib/ops/reshape.js";
import { gradientsOnCpu } from "./device_gradients.js";
import { randomTensor } from "./gradient.js";

/** How far results are rounded, to bfloat16. */
const tolerance = 2 ** -8;
const all = { wantsX: true, wantsWeight: true, wantsBias: true };

test("gradients of convolution over time and frequency stay within their sequence", (t) => {
  for (const { lengths, features, channels, depthwise, stride, padding, activation } of [
    { lengths: [1], features: 1, channels: 8, depthwise: true, stride: 1, padding: 1, activation: "none" },
    { lengths: [9, 0, 12, 2], features: 11, channels: 24, depthwise: true, stride: 2, padding: 1, activation: "none" },
    { lengths: [7, 5], features: 9, channels: 16, depthwise: true, stride: 1, padding: 0, activation: "relu" },
    { lengths: [13, 6], features: 10, channels: 40, depthwise: false, stride: 2, padding: 1, activation: "relu" },
    { lengths: [8], features: 20, channels: 264, depthwise: false, stride: 3, padding: 2, activation: "relu" },
  ] as const) {
    const offsets = new SequenceOffsets(lengths);
    using sequences = new DeviceSequences(offsets);
    const outputOffsets = new SequenceOffsets(lengths.map((length) => convolvedLength(length, 3, { stride, padding })));
    using outputs = sequences.shorten(outputOffsets, { kernel: 3, stride, padding });
    const what = `[${lengths.join(", ")}] x ${features} x ${channels}`;
    const x = DeviceTensor.from(randomTensor([offsets.frames, features * (depthwise ? channels : 1)], 1));
    const [weight, bias] = [
      DeviceTensor.from(randomTensor([channels, 9], 2), "float32"),
      DeviceTensor.from(randomTensor([channels], 3), "float32"),
    ];
    const gradient = DeviceTensor.from(
      randomTensor([outputOffsets.frames, convolvedLength(features, 3, { stride, padding }) * channels], 4),
    );
    // Where relu lets values through is decided by what the GPU rounded: a value near 0 may be either.
    const y = devicePlaneConvolution(x, weight, sequences, { bias, features, stride, padding, activation, outputs });
    const above = gradient.toArray();
    const passed = Float32Array.from(y.toArray(), (value, i) => (activation === "relu" && !(value > 0) ? 0 : (above[i] as number)));
    const expected = gradientsOnCpu(
      [x, weight, bias],
      DeviceTensor.from(Tensor.from(passed, gradient.shape)),
      ([a, w, b]) =>
        planeConvolution(a as Tensor, reshape(w as Tensor, [channels, 1, 3, 3]), b as Tensor, offsets, { features, stride, padding })
          .output,
    );
    const options = { features, stride, padding, activation, outputs, y };
    const actual = devicePlaneConvolutionBackward(x, weight, sequences, gradient, { ...options, ...all });
    assertClose(t, (actual.x as DeviceTensor).toArray(), expected[0] as Float32Array, tolerance, `x, ${what}`);
    assertClose(t, (actual.weight as DeviceTensor).toArray(), expected[1] as Float32Array, 1e-5, `weight, ${what}`);
    assertClose(t, (actual.bias as DeviceTensor).toArray(), expected[2] as Float32Array, 1e-5, `bias, ${what}`);
    const again = devicePlaneConvolutionBackward(x, weight, sequences, gradient, {
      ...options,
      wantsX: false,
      wantsWeight: true,
      wantsBias: false,
    });
    t.is(again.x, undefined);
    t.deepEqual(again.weight?.toArray(), actual.weight?.toArray());
  }
});

test("convolution over time and frequency goes back through the tape", (t) => {
  const offsets = new SequenceOffsets([7, 4]);
  const [x, gradient] = [DeviceTensor.from(randomTensor([11, 6], 1)), DeviceTensor.from(randomTensor([6, 24], 2))];
  const [weight, bias] = [DeviceTensor.from(randomTensor([8, 9], 3), "float32"), DeviceTensor.from(randomTensor([8], 4), "float32")];
  const options = { features: 6, stride: 2, padding: 1 };
  const expected = gradientsOnCpu(
    [x, weight, bias],
    gradient,
    ([a, w, b]) => planeConvolution(a as Tensor, reshape(w as Tensor, [8, 1, 3, 3]), b as Tensor, offsets, options).output,
  );
  const inputs = [x, weight, bias];
  for (const input of inputs) input.requiresGrad = true;
  using tape = new Tape();
  tape.backward(
    tape.record(() => planeConvolution(x, weight, bias, offsets, options).output),
    gradient.clone(),
  );
  inputs.forEach((input, i) =>
    assertClose(t, (tape.gradientOf(input) as Tensor).toArray(), expected[i] as Float32Array, 2 ** -8, `input ${i}`),
  );
});

test("gradients of depthwise convolution stay within their sequence", (t) => {
  for (const { lengths, channels, kernel, leftPadding } of [
    { lengths: [1], channels: 1, kernel: 1, leftPadding: 0 },
    { lengths: [5, 0, 70, 3], channels: 66, kernel: 15, leftPadding: 7 },
    { lengths: [130], channels: 7, kernel: 9, leftPadding: 8 },
    { lengths: [33, 40], channels: 8, kernel: 32, leftPadding: 15 },
    { lengths: [9], channels: 8, kernel: 70, leftPadding: 3 },
  ]) {
    const offsets = new SequenceOffsets(lengths);
    using sequences = new DeviceSequences(offsets);
    const what = `[${lengths.join(", ")}] x ${channels}, kernel ${kernel}`;
    const [x, gradient] = [5, 6].map((seed) => DeviceTensor.from(randomTensor([offsets.frames, channels], seed))) as [
      DeviceTensor,
      DeviceTensor,
    ];
    const [weight, bias] = [
      DeviceTensor.from(randomTensor([channels, kernel], 7), "float32"),
      DeviceTensor.from(randomTensor([channels], 8), "float32"),
    ];
    const expected = gradientsOnCpu([x, weight, bias], gradient, ([a, w, b]) =>
      depthwiseConvolution(a as Tensor, w as Tensor, offsets, { bias: b as Tensor, leftPadding }),
    );
    const actual = deviceDepthwiseConvolutionBackward(x, weight, sequences, gradient, { leftPadding, ...all });
    assertClose(t, (actual.x as DeviceTensor).toArray(), expected[0] as Float32Array, tolerance, `x, ${what}`);
    assertClose(t, (actual.weight as DeviceTensor).toArray(), expected[1] as Float32Array, 1e-5, `weight, ${what}`);
    assertClose(t, (actual.bias as DeviceTensor).toArray(), expected[2] as Float32Array, 1e-5, `bias, ${what}`);
  }
});
