import { assertClose } from "./gpu.js";
import { join } from "node:path";
import test from "ava";
import { attention, deviceAttention, DeviceSequences, DeviceTensor, SequenceOffsets, tidy, type Tensor } from "../lib/operations.js";
import { deviceTrainingAttention, deviceTrainingRelativeAttention } from "../lib/device/training_attention.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { describeModel, loadModel } from "../lib/models/model_folder.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { gradientsOnCpu, gradientsOnGpu } from "./device_gradients.js";
import { randomTensor } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder } from "./tiny_model.js";
import { trainableConfigs } from "./trainable_models.js";

const folder = temporaryFolder("device-windows");
test.after.always(folder.clean);

interface Case {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly keyHeads: number;
  readonly headDim: number;
  readonly context?: readonly [left: number, right: number];
}
/** Windows within a tile of keys, across some, of the frame itself, beyond the sequence, and to one side; all frames with shared keys. */
const cases: readonly Case[] = [
  { lengths: [7, 0, 130, 1], heads: 2, keyHeads: 2, headDim: 16, context: [3, 2] },
  { lengths: [200], heads: 2, keyHeads: 1, headDim: 8, context: [40, 33] },
  { lengths: [70, 3], heads: 2, keyHeads: 2, headDim: 72, context: [0, 0] },
  { lengths: [66, 20], heads: 1, keyHeads: 1, headDim: 64, context: [500, 90] },
  { lengths: [129, 66], heads: 1, keyHeads: 1, headDim: 8, context: [70, 0] },
  { lengths: [66, 5], heads: 4, keyHeads: 2, headDim: 8 },
];
const nameOf = ({ lengths, heads, keyHeads, headDim, context }: Case): string =>
  `[${lengths.join(", ")}], ${heads} heads of ${headDim}, keys of ${keyHeads}, ${context ? `window ${context.join(", ")}` : "all"}`;

/** Query, key, value, positions and both biases, and where the positions begin. */
function operandsOf({ lengths, heads, keyHeads, headDim, context }: Case): { inputs: DeviceTensor[]; origin: number } {
  const [frames, longest] = [new SequenceOffsets(lengths).frames, Math.max(...lengths)];
  const [before, after] = context ?? [longest - 1, longest - 1];
  const make = (shape: number[], index: number): DeviceTensor => {
    const rounded = DeviceTensor.from(randomTensor(shape, index + 1));
    return shape.length > 1 ? rounded : DeviceTensor.from(rounded.toTensor(), "float32");
  };
  const [width, keyWidth] = [heads * headDim, keyHeads * headDim];
  const inputs = [[frames, width], [frames, keyWidth], [frames, keyWidth], [before + after + 1, width], [width], [width]].map(make);
  return { inputs, origin: before };
}

const relativelyAttended =
  ({ lengths, heads, keyHeads, context }: Case, origin: number) =>
  ([query, key, value, keys, contentBias, positionBias]: readonly Tensor[]): Tensor =>
    relativeAttention(query as Tensor, key as Tensor, value as Tensor, { keys: keys as Tensor, origin }, new SequenceOffsets(lengths), {
      heads,
      keyValueHeads: keyHeads,
      contentBias: contentBias as Tensor,
      positionBias: positionBias as Tensor,
      context,
    });

test("relative attention over a window, or with shared keys, is that of the CPU, and so are its gradients, in the same bits each time", (t) => {
  for (const one of cases) {
    const { inputs, origin } = operandsOf(one);
    const attend = relativelyAttended(one, origin);
    const [tolerance, what] = [2 ** -6, nameOf(one)];
    const expected = attend(inputs.map((input) => input.toTensor()));
    assertClose(t, attend(inputs).toArray(), expected.toArray(), tolerance, what);
    const gradient = DeviceTensor.from(randomTensor(expected.shape, 9));
    const gradients = gradientsOnCpu(inputs, gradient, attend);
    const found = gradientsOnGpu(inputs, gradient.clone(), attend);
    // In a window of one frame its probability is 1 and nothing reaches queries, keys and positions but rounding.
    gradients.forEach((values, i) => {
      if (i === 2 || one.context?.[0] !== 0 || one.context[1] !== 0)
        assertClose(t, found[i] as Float32Array, values, tolerance, `input ${i}, ${what}`);
    });
    if (one === cases[0]) t.deepEqual(gradientsOnGpu(inputs, gradient.clone(), attend), found, what);
  }
});

test("a window gives the same bits whatever else is in the batch, where that is asked for, and frames outside of it do not matter", (t) => {
  const [heads, width, context] = [2, 32, [20, 9]] as const;
  const relative = {
    positions: DeviceTensor.from(randomTensor([30, width], 4), "float16"),
    origin: 20,
    contentBias: DeviceTensor.from(randomTensor([width], 5), "float16"),
    positionBias: DeviceTensor.from(randomTensor([width], 6), "float16"),
    context,
  };
  const run = (tensors: readonly Tensor[], lengths: readonly number[]): Float32Array => {
    const [query, key, value] = tensors.map((x) => DeviceTensor.from(x, "float16")) as [DeviceTensor, DeviceTensor, DeviceTensor];
    using sequences = new DeviceSequences(new SequenceOffsets(lengths));
    return deviceAttention(query, key, value, sequences, { heads, relative, batchInvariant: true }).toArray();
  };
  const operands = [1, 2, 3].map((seed) => randomTensor([165, width], seed));
  const all = run(operands, [5, 90, 70]);
  const alone = operands.map((x) => x.rows(5, 95));
  t.deepEqual(run(alone, [90]), all.slice(5 * width, 95 * width));
  const [query, ...others] = alone.map((x) => x.clone()) as [Tensor, Tensor, Tensor];
  for (const other of others) other.rows(60, 90).write(randomTensor([30, width], 7).toArray());
  t.deepEqual(run([query, ...others], [90]).slice(0, 51 * width), all.slice(5 * width, 56 * width)); // the window of frame 50 ends at 59
});

test("attention with rotated, shared keys is that of the CPU, and so are its gradients", (t) => {
  for (const dropout of [undefined, { probability: 0.3, seed: 5 }]) {
    const one: Case = { lengths: [67, 5, 0], heads: 4, keyHeads: 2, headDim: 16 };
    const inputs = operandsOf(one).inputs.slice(0, 3);
    const offsets = new SequenceOffsets(one.lengths);
    const attend = ([query, key, value]: readonly Tensor[]): Tensor =>
      attention(query as Tensor, key as Tensor, value as Tensor, offsets, { heads: 4, keyValueHeads: 2, ropeTheta: 10_000, dropout });
    const expected = attend(inputs.map((input) => input.toTensor()));
    assertClose(t, attend(inputs.map((input) => input.clone())).toArray(), expected.toArray(), 2 ** -6, "out");
    const gradient = DeviceTensor.from(randomTensor(expected.shape, 9));
    const gradients = gradientsOnCpu(inputs, gradient, attend);
    gradientsOnGpu(inputs, gradient.clone(), attend).forEach((values, i) =>
      assertClose(t, values, gradients[i] as Float32Array, 2 ** -6, `input ${i}`),
    );
  }
});

test("a Parakeet over a window, with shared keys, computes on the GPU what it computes on the CPU, recorded or not", (t) => {
  const encoder = {
    ...(trainableConfigs["parakeet_ctc"]?.["encoder_config"] as object),
    subsampling_conv_channels: 8,
    num_hidden_layers: 2,
  };
  const config = {
    ...trainableConfigs["parakeet_ctc"],
    encoder_config: { ...encoder, num_key_value_heads: 1, attention_type: "rel_pos_local_attn", attention_context_size: [5, 2] },
  };
  const path = writeRandomModel(join(folder.path, "window"), config, { feature_size: 16 });
  const [onGpu, onCpu] = (["cuda", "cpu"] as const).map((device) => loadModel(path, { device }).network as CtcNetwork) as [
    CtcNetwork,
    CtcNetwork,
  ];
  for (const lengths of [
    [90, 31],
    [85, 40],
    [3, 122],
  ]) {
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const features = randomTensor([offsets.frames, onCpu.featureSize], 1);
      const expected = onCpu.forward(features, offsets).logits.toArray();
      const { logits } = onGpu.forward(DeviceTensor.from(features), offsets);
      t.is(logits.device, "cuda");
      assertClose(t, logits.toArray(), expected, 2e-2, `[${lengths.join(", ")}]`);
    });
  }
  onGpu.dispose();
});

test("models whose heads kernels do not take are the CPU's", (t) => {
  const onGpu = (family: string, encoderChange: object, change: object = {}): boolean => {
    const config = trainableConfigs[family] as { readonly encoder_config?: object };
    const encoder = config.encoder_config && {
      encoder_config: { ...config.encoder_config, subsampling_conv_channels: 8, ...encoderChange },
    };
    return describeModel({ ...config, ...encoder, ...change } as never, "config.json").gpuWeights !== undefined;
  };
  t.deepEqual(
    [160, 168, 12].map((head_dim) => ["parakeet_ctc", "lasr_ctc"].map((family) => onGpu(family, { head_dim }))),
    [
      [true, true],
      [false, false],
      [false, false],
    ],
  );
  t.deepEqual(
    [127, 129].map((conv_kernel_size) => onGpu("parakeet_ctc", { conv_kernel_size })),
    [true, false],
  );
  t.deepEqual(
    [320, 352].map((d_model) => onGpu("whisper", {}, { d_model })),
    [true, false],
  );
});

test("misuse is a coded error", (t) => {
  const x = DeviceTensor.zeros([9, 32]);
  using sequences = new DeviceSequences(new SequenceOffsets([9]));
  const relative = {
    positions: DeviceTensor.zeros([6, 32]),
    contentBias: DeviceTensor.zeros([32]),
    positionBias: DeviceTensor.zeros([32]),
  };
  const invalid = { code: "INVALID_ARGUMENT" };
  const attend = (change: object): unknown => deviceAttention(x, x, x, sequences, { heads: 4, relative: { ...relative, ...change } });
  t.notThrows(() => attend({ origin: 3, context: [3, 2] }));
  t.throws(() => attend({ origin: 3, context: [3, 3] }), { ...invalid, message: /distances from 3 to -3, but its rows are for 3 to -2/ });
  t.throws(() => attend({ origin: 2, context: [3, 2] }), { ...invalid, message: /distances from 3 to -2/ });
  t.throws(() => attend({}), { ...invalid, message: /distances from 8 to -8, but its rows are for 8 to 3/ });
  t.throws(() => attend({ origin: 3, context: [-2, 2] }), { ...invalid, message: /left/ });
  t.throws(() => attend({ origin: -1, context: [0, 0] }), { ...invalid, message: /origin/ });
  t.throws(() => deviceTrainingRelativeAttention(x, x, x, sequences, { heads: 4, relative }), { ...invalid, message: /distances from 8/ });
  const keys = (columns: number): DeviceTensor => DeviceTensor.zeros([9, columns]);
  t.notThrows(() => deviceTrainingAttention(x, keys(8), keys(8), sequences, { heads: 4 }));
  for (const columns of [24, 4, 64]) {
    t.throws(() => deviceAttention(x, keys(columns), keys(columns), sequences, { heads: 4 }), {
      ...invalid,
      message: /key must have shape/,
    });
  }
  const empty = DeviceTensor.zeros([9, 0]);
  for (const attendTo of [deviceAttention, deviceTrainingAttention])
    t.throws(() => attendTo(empty, empty, empty, sequences, { heads: 4 }), { code: "UNSUPPORTED_SPEC", message: /heads have 0 values/ });
  t.throws(() => deviceAttention(x, keys(8), keys(16), sequences, { heads: 4 }), { ...invalid, message: /value must have shape \(9, 8\)/ });
});
