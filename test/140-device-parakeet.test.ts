import { assertClose, onlySmall } from "./gpu.js";
import test from "ava";
import { join } from "node:path";
import {
  devicePlaneConvolution,
  DeviceSequences,
  deviceSwapColumnAxes,
  DeviceTensor,
  DeviceWeight,
  linear,
  loadModel,
  packedLinear,
  packWeight,
  SequenceOffsets,
  Tensor,
  tidy,
  UsmLiteError,
} from "../lib/index.js";
import { PackedMatrix } from "../lib/quant/packed_matrix.js";
import type { CtcNetwork, TransducerNetwork } from "../lib/models/speech_network.js";
import { convolvedLength, planeConvolution } from "../lib/ops/plane_convolution.js";
import { swapColumnAxes } from "../lib/ops/swap_axes.js";
import { floatTypes } from "./device_products.js";
import { randomTensor, randomValues } from "./gradient.js";
import { sharedFolder } from "./shared.js";

test("convolution over time and frequency stays within its sequence and features", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const { lengths, features, channels, stride, padding, single } of [
      { lengths: [1], features: 1, channels: 8, stride: 2, padding: 1, single: false },
      { lengths: [9, 0, 4, 1], features: 7, channels: 24, stride: 2, padding: 1, single: true },
      { lengths: [9, 0, 4, 1], features: 6, channels: 24, stride: 2, padding: 1, single: false },
      { lengths: [5, 3], features: 5, channels: 8, stride: 1, padding: 0, single: false },
      { lengths: [4], features: 4, channels: onlySmall ? 16 : 2056, stride: 2, padding: 2, single: false },
    ]) {
      const offsets = new SequenceOffsets(lengths);
      const device = DeviceTensor.from(randomTensor([offsets.frames, features * (single ? 1 : channels)], 1), type);
      const [weight, bias] = [randomTensor([channels, 1, 3, 3], 2), randomTensor([channels], 3)];
      const onGpu = { weight: DeviceTensor.from(weight.reshape([channels, 9]), "float32"), bias: DeviceTensor.from(bias, "float32") };
      using sequences = new DeviceSequences(offsets);
      for (const activation of ["none", "relu"] as const) {
        const expected = planeConvolution(device.toTensor(), weight, bias, offsets, { features, stride, padding, activation });
        using outputs = sequences.shorten(expected.offsets, { kernel: 3, stride, padding });
        const y = devicePlaneConvolution(device, onGpu.weight, sequences, {
          bias: onGpu.bias,
          features,
          stride,
          padding,
          activation,
          outputs,
        });
        assertClose(
          t,
          y.toTensor().toArray(),
          expected.output.toArray(),
          tolerance,
          `${type} [${lengths.join(", ")}], ${features} x ${channels}`,
        );
      }
    }
  }
});

test("each row of a tensor is a matrix that can be transposed", (t) => {
  for (const [rows, outer, inner] of [
    [3, 1, 5],
    [2, 7, 9],
    [1, 16, 24],
  ] as const) {
    const x = DeviceTensor.from(randomTensor([rows, outer * inner], 1));
    t.deepEqual(deviceSwapColumnAxes(x, outer).toTensor().toArray(), swapColumnAxes(x.toTensor(), outer).toArray());
  }
});

test("sequences that shorten on the GPU lie where they do on the CPU", (t) => {
  const lengths = Array.from({ length: onlySmall ? 5 : 150 }, (_, i) => (i * 7) % 12);
  for (const shape of [
    { kernel: 3, stride: 2, padding: 1 },
    { kernel: 5, stride: 2, padding: 0 },
    { kernel: 1, stride: 3, padding: 0 },
  ]) {
    const offsets = new SequenceOffsets(lengths);
    const shortened = new SequenceOffsets(lengths.map((length) => convolvedLength(length, shape.kernel, shape)));
    using before = new DeviceSequences(offsets);
    using after = before.shorten(shortened, shape);
    // What a convolution with the identity sees of frames 0, 1, 2.. tells where each sequence begins.
    const x = DeviceTensor.from(Tensor.from(randomValues(shortened.frames * 8, 2), [shortened.frames, 8]));
    const weight = DeviceTensor.from(
      Tensor.from(
        [0, 0, 0, 0, 1, 0, 0, 0, 0].flatMap((v) => v),
        [1, 9],
      ),
      "float32",
    );
    t.is(after.frames, shortened.frames);
    const weights = DeviceTensor.from(
      Tensor.from(
        Array.from({ length: 8 }, () => weight.toArray()).flatMap((row) => [...row]),
        [8, 9],
      ),
      "float32",
    );
    using same = after.shorten(shortened, { kernel: 3, stride: 1, padding: 1 });
    const y = devicePlaneConvolution(x, weights, after, {
      bias: DeviceTensor.zeros([8], "float32"),
      features: 1,
      stride: 1,
      padding: 1,
      outputs: same,
    });
    t.deepEqual(y.toTensor().toArray(), x.toTensor().toArray());
  }
});

test("tensors on the GPU share memory with their rows and other shapes", (t) => {
  const x = DeviceTensor.from(randomTensor([6, 16], 1));
  const values = x.toTensor().toArray();
  t.deepEqual(x.rows(2, 5).toTensor().toArray(), values.slice(32, 80));
  t.deepEqual(x.rows(2, 5).rows(1, 2).toTensor().toArray(), values.slice(48, 64));
  const cells = x.reshape([12, 8]);
  t.deepEqual([...cells.shape], [12, 8]);
  t.deepEqual(cells.rows(1, 3).toTensor().toArray(), values.slice(8, 24));
  DeviceTensor.zeros([1, 16]).copyTo(x);
  t.deepEqual(x.clone().toTensor().toArray().slice(0, 17), Float32Array.of(...new Array<number>(16).fill(0), values[16] as number));
  t.throws(() => x.reshape([8, 12]), { instanceOf: UsmLiteError, code: "UNSUPPORTED_SPEC", message: /multiples of 16 bytes/ });
  t.throws(() => x.reshape([5, 16]), { code: "INVALID_ARGUMENT" });
  t.throws(() => x.rows(3, 7), { code: "INVALID_ARGUMENT" });
  t.throws(() => x.copyTo(DeviceTensor.zeros([5, 16])), { code: "INVALID_ARGUMENT", message: /does not fit into/ });
});

test("workers share the weights on the GPU", (t) => {
  const weight = DeviceWeight.from(packWeight(randomTensor([64, 32], 1), "int4+2:4"));
  const id = weight.share();
  const x = DeviceTensor.from(randomTensor([3, 32], 2));
  const product = packedLinear(x, weight).toArray();
  using other = DeviceWeight.fromShared(id);
  using twice = weight.repeat(2);
  t.is(weight.share(), id);
  t.deepEqual([other.spec, other.rows, other.columns, other.bytes], [weight.spec, 64, 32, weight.bytes]);
  weight.dispose();
  t.deepEqual(packedLinear(x, other).toArray(), product);
  t.deepEqual(packedLinear(x, twice).toArray().slice(0, 128), Float32Array.of(...[0, 0].flatMap(() => [...product.slice(0, 64)])));
  other.dispose();
  t.throws(() => DeviceWeight.fromShared(id), { code: "INVALID_ARGUMENT", message: /must keep it until all workers have it/ });
});

test("weights and activations have to be on the same device", (t) => {
  using weight = DeviceWeight.from(packWeight(randomTensor([8, 8], 1), "int8"));
  t.throws(() => packedLinear(randomTensor([1, 8], 2), weight), {
    code: "INVALID_ARGUMENT",
    message: /the weight is on the GPU but x is on the CPU; copy x/,
  });
  using packed = PackedMatrix.from(packWeight(randomTensor([8, 8], 1), "int8"));
  t.throws(() => packedLinear(DeviceTensor.zeros([1, 8]), packed), {
    code: "INVALID_ARGUMENT",
    message: /load the model with device "cuda"/,
  });
  t.is(linear(DeviceTensor.zeros([2, 8]), randomTensor([8, 8, 1, 1], 3)).device, "cuda");
});

const reference = sharedFolder() && join(sharedFolder() as string, "reference");
const withReference = reference ? test : test.skip;

withReference("a Parakeet CTC model computes on the GPU what it computes on the CPU, recorded or not", (t) => {
  const folder = join(reference as string, "parakeet_ctc");
  const onGpu = loadModel(folder, { device: "cuda" }).network as CtcNetwork;
  const onCpu = loadModel(folder).network as CtcNetwork;
  for (const lengths of [
    [31, 9],
    [26, 16],
    [10, 28],
  ]) {
    // from the second on, one recording
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const features = Tensor.from(randomValues(offsets.frames * onCpu.featureSize, 1), [offsets.frames, onCpu.featureSize]);
      const expected = onCpu.forward(features, offsets);
      const heard = onGpu.forward(DeviceTensor.from(features), offsets);
      t.deepEqual(heard.offsets.lengths, expected.offsets.lengths);
      assertClose(t, heard.logits.toArray(), expected.logits.toArray(), 2e-2, `[${lengths.join(", ")}]`);
    });
  }
  onGpu.dispose();
});

withReference("the encoder of a Parakeet transducer as well", (t) => {
  const folder = join(reference as string, "parakeet_tdt");
  const onGpu = loadModel(folder, { device: "cuda" }).network as TransducerNetwork;
  const onCpu = loadModel(folder).network as TransducerNetwork;
  const offsets = new SequenceOffsets([17]);
  const features = Tensor.from(randomValues(17 * onCpu.featureSize, 1), [17, onCpu.featureSize]);
  const [gpu, cpu] = [onGpu.encode(DeviceTensor.from(features), offsets), onCpu.encode(features, offsets)];
  assertClose(t, gpu.projected.toArray(), cpu.projected.toArray(), 2e-2, "projected");
});
