/** wav2vec 2.0, HuBERT and wav2vec2-conformer on the GPU. */
import { assertClose, realGpu } from "./gpu.js";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { DeviceSequences } from "../lib/device/device_sequences.js";
import { groupedWeightOnGpu, removeFromGpu } from "../lib/device/placement.js";
import {
  deviceGeluInPlace,
  deviceGroupedConvolution,
  deviceInstanceNorm,
  deviceSampleWindows,
} from "../lib/device/sample_encoder_operations.js";
import {
  AdapterBase,
  compressModel,
  DeviceTensor,
  gpuMemoryStatistics,
  loadModel,
  Recognizer,
  SequenceOffsets,
  Tensor,
  tidy,
  UsmLiteError,
  type Adapter,
} from "../lib/index.js";
import { describeModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { scaledSum } from "../lib/ops/elementwise.js";
import { gelu } from "../lib/ops/gelu.js";
import { groupedConvolution } from "../lib/ops/grouped_convolution.js";
import { instanceNorm } from "../lib/ops/instance_norm.js";
import { rotateRows } from "../lib/ops/rotary_embedding.js";
import { subsamplingConvolution } from "../lib/ops/subsampling_convolution.js";
import { randomAdapter } from "./adapters.js";
import { randomTensor, randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { maskLengths, readExpected, referenceFolder, relativeError, throughFile } from "./reference.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("device-wav2vec2");
test.after.always(folder.clean);
const types = [
  ["bfloat16", 2 ** -7],
  ["float16", 2 ** -10],
] as const;
const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };

/** A tensor on the GPU, and the same rounded values on the CPU. */
function rounded(x: Tensor, type: "bfloat16" | "float16" = "bfloat16"): { device: DeviceTensor; host: Tensor } {
  const device = DeviceTensor.from(x, type);
  return { device, host: device.toTensor() };
}

test("channels are normalized over the frames of their sequence", (t) => {
  for (const [type, tolerance] of types) {
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
  for (const [type, tolerance] of types) {
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

const base = {
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
  conv_dim: [16, 24, 16],
  conv_kernel: [10, 3, 2],
  conv_stride: [5, 2, 2],
  num_conv_pos_embeddings: 12,
  num_conv_pos_embedding_groups: 4,
  vocab_size: 9,
};
const kinds: Readonly<Record<string, object>> = {
  base: { model_type: "wav2vec2", ...base },
  stable: {
    model_type: "hubert",
    ...base,
    feat_extract_norm: "layer",
    do_stable_layer_norm: true,
    conv_bias: true,
    num_conv_pos_embeddings: 7,
  },
  "conformer, relative": { model_type: "wav2vec2-conformer", ...base, hidden_act: "swish", conv_depthwise_kernel_size: 7 },
  "conformer, rotary": {
    model_type: "wav2vec2-conformer",
    ...base,
    position_embeddings_type: "rotary",
    hidden_act: "gelu",
    conv_depthwise_kernel_size: 5,
  },
};
const vocabulary = { "<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, A: 5, B: 6, C: 7, D: 8 };

function write(kind: string): string {
  const model = writeRandomModel(join(folder.path, kind), kinds[kind] as object, {
    feature_extractor_type: "Wav2Vec2FeatureExtractor",
    return_attention_mask: true,
  });
  writeFileSync(join(model, "vocab.json"), JSON.stringify(vocabulary));
  return model;
}
const models = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, write(kind)]));

const lengths = [420, 20, 610]; // the second is too short for a frame
const samples = lengths.map((length, index) => randomValues(length, index + 1).map((value) => value + 0.1));

/** Logits of each of the sequences `items`, heard together. */
function logits(
  model: string,
  device: "cpu" | "cuda",
  items: readonly number[],
  adaptersOf?: (base: AdapterBase) => (Adapter | undefined)[],
): Float32Array[] {
  return tidy(() => {
    const loaded = loadModel(model, { device, weights: device === "cpu" ? "float32" : "packed" });
    const network = loaded.network as CtcNetwork;
    const offsets = new SequenceOffsets(items.map((item) => lengths[item] as number));
    const values = Tensor.from(Float32Array.from(items.flatMap((item) => [...(samples[item] as Float32Array)])), [offsets.frames]);
    const features = device === "cuda" ? DeviceTensor.from(values, "float32") : values.reshape([offsets.frames, 1]);
    const hidden = new SequenceOffsets(offsets.lengths.map((frames) => network.hiddenFrames(frames)));
    const adapters = adaptersOf?.(new AdapterBase(loaded));
    const pass = (): Float32Array => network.forward(features, offsets).logits.toArray();
    const all = adapters
      ? withAdapters({ kind: "sequences", offsets: hidden, adapters: adapters.map((one) => one?.factors) }, pass)
      : pass();
    for (const adapter of adapters ?? []) adapter?.dispose();
    network.dispose();
    return hidden.lengths.map((frames, index) => all.slice(hidden.begin(index) * 9, (hidden.begin(index) + frames) * 9));
  });
}

for (const kind of Object.keys(kinds)) {
  test.serial(`${kind}: the GPU computes what the CPU computes, in any batch, and gives its memory back`, (t) => {
    const model = models[kind] as string;
    logits(model, "cuda", [0, 1, 2]); // the stream keeps its counters
    const before = gpuMemoryStatistics().bytesInUse;
    const together = logits(model, "cuda", [0, 1, 2]);
    t.is(gpuMemoryStatistics().bytesInUse, before);
    t.is(together[1]?.length, 0);
    logits(model, "cpu", [0, 1, 2]).forEach((expected, item) => {
      if (item === 1) return;
      assertClose(t, together[item] as Float32Array, expected, 3e-2, `${kind}, sequence ${item}`);
    });
    assertClose(t, logits(model, "cuda", [2])[0] as Float32Array, together[2] as Float32Array, 2e-2, `${kind}, alone`);
  });
}

for (const kind of ["base", "conformer, relative"]) {
  test.serial(`${kind}: passes are recorded for lengths that come again, and give what they give unrecorded`, (t) => {
    const [onGpu, onCpu] = [
      loadModel(models[kind] as string, { device: "cuda" }).network as CtcNetwork,
      loadModel(models[kind] as string).network as CtcNetwork,
    ];
    const memory: number[] = [];
    for (const heard of [
      [300, 500],
      [300, 500],
      [490, 295],
    ]) {
      tidy(() => {
        const offsets = new SequenceOffsets(heard);
        const values = randomTensor([offsets.frames], offsets.frames);
        const found = onGpu.forward(DeviceTensor.from(values, "float32"), offsets).logits.toArray();
        const expected = onCpu.forward(values.reshape([offsets.frames, 1]), offsets).logits.toArray();
        assertClose(t, found, expected, 3e-2, heard.join());
      });
      memory.push(gpuMemoryStatistics().bytesInUse);
    }
    const [first = 0, second = 0, ...others] = memory;
    t.true(second > first, "a recording has memory of its own");
    t.deepEqual(others, [second], "which lengths of nearly the same size use again");
    onGpu.dispose();
    t.true(gpuMemoryStatistics().bytesInUse < first);
  });
}

test.serial("packed weights of any kind, convolutions among them", async (t) => {
  for (const [kind, spec] of [
    ["base", "int4+2:4"],
    ["stable", "nf4/g32"],
    ["conformer, relative", "int8"],
  ] as const) {
    const out = join(folder.path, `packed ${kind}`);
    const recipe = roundToNearest(spec, {
      "*.feature_extractor.conv_layers.1.conv": "int8",
      "*.feature_projection.projection": "int4",
      lm_head: "int8",
    });
    await compressModel({ model: models[kind] as string, recipe, manifest: undefined, out });
    const [cpu, gpu] = [logits(out, "cpu", [0, 2]), logits(out, "cuda", [0, 2])];
    cpu.forEach((expected, item) => assertClose(t, gpu[item] as Float32Array, expected, 3e-2, `${kind} in ${spec}, ${item}`));
  }
});

test.serial("each sequence is heard with its own adapter, before GELU too", (t) => {
  const model = models["base"] as string;
  const adapters = (base: AdapterBase): (Adapter | undefined)[] => [randomAdapter(base, 3, 1), undefined, undefined];
  const [cpu, gpu, plain] = [
    logits(model, "cpu", [0, 1, 2], adapters),
    logits(model, "cuda", [0, 1, 2], adapters),
    logits(model, "cuda", [0, 1, 2]),
  ];
  assertClose(t, gpu[0] as Float32Array, cpu[0] as Float32Array, 3e-2, "adapted");
  t.notDeepEqual(gpu[0], plain[0]);
  t.deepEqual(gpu[2], plain[2], "who has no adapter gets, to the bit, what he would alone");
});

test.serial("recordings are transcribed on the GPU from their samples", (t) => {
  const model = models["stable"] as string;
  t.is(loadModel(model, { device: "auto" }).device, "cuda");
  const [cpu, gpu] = (["cpu", "cuda"] as const).map((device) => {
    const recognizer = new Recognizer(loadModel(model, { device }), { decoder: "greedy" });
    return recognizer.forward([0, 2].map((item) => recognizer.featureChunk(samples[item] as Float32Array)));
  }) as [ReturnType<Recognizer["forward"]>, ReturnType<Recognizer["forward"]>];
  gpu.forEach((chunk, index) => {
    t.deepEqual([chunk.frames, chunk.tokens], [cpu[index]?.frames, cpu[index]?.tokens]);
    assertClose(t, chunk.values, cpu[index]?.values as Float32Array, 3e-2, `chunk ${index}`);
  });
  t.regex(
    new Recognizer(loadModel(model, { device: "cuda" }), { decoder: "greedy" }).transcribe(samples[0] as Float32Array).text,
    /^[A-D ]+$/,
  );
});

test("sizes that the kernels do not take compute on the CPU", (t) => {
  const odd = writeRandomModel(
    join(folder.path, "odd"),
    { ...kinds["base"], conv_dim: [16, 20, 16] },
    { feature_extractor_type: "Wav2Vec2FeatureExtractor" },
  );
  writeFileSync(join(odd, "vocab.json"), JSON.stringify(vocabulary));
  t.throws(() => loadModel(odd, { device: "cuda" }), {
    instanceOf: UsmLiteError,
    code: "UNSUPPORTED_MODEL",
    message: /a model like this of wav2vec2 computes on the CPU only; use device "cpu"/,
  });
  t.is(loadModel(odd, { device: "auto" }).device, "cpu");
  const weights = (config: object, change: object): RegExp | undefined =>
    describeModel({ ...config, ...change } as never, "config.json").gpuWeights;
  const [transformer, conformer] = [kinds["base"] as object, kinds["conformer, relative"] as object];
  t.true(weights(transformer, {}) instanceof RegExp);
  for (const change of [
    { conv_dim: [16, 20, 16] },
    { num_attention_heads: 16 },
    { intermediate_size: 20 },
    { num_conv_pos_embedding_groups: 16 },
    { hidden_size: 336 },
  ]) {
    t.is(weights(transformer, change), undefined, JSON.stringify(change));
  }
  t.true(weights(conformer, { num_conv_pos_embedding_groups: 8 }) instanceof RegExp);
  t.is(weights(conformer, { conv_depthwise_kernel_size: 129 }), undefined);
});

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models");
const references = [
  ...["relative", "rotary"].map((kind) => ({
    family: `wav2vec2-conformer, ${kind}`,
    reference: join(fixtures, `wav2vec2_conformer_${kind}`),
    runs: true,
  })),
  // Seconds of samples: too much for the emulator.
  ...["hubert_ctc", "wav2vec2_stable_ctc"].map((family) => ({ family, reference: referenceFolder(family), runs: realGpu })),
];

for (const { family, reference, runs } of references) {
  (reference && runs ? test : test.skip)(`${family}: the GPU computes what transformers does`, (t) => {
    const { network, frontEnd } = loadModel(reference as string, { device: "cuda" });
    using expected = readExpected(reference as string);
    const [batch = 0, count = 0] = expected.shape("input_values");
    const { attentionMask } = frontEnd.config;
    const masked =
      attentionMask && expected.has("attention_mask") ? maskLengths(expected, "attention_mask") : new Array<number>(batch).fill(count);
    const rows = masked.map((length) => (network as CtcNetwork).hiddenFrames(length));
    throughFile(paddedForward(network, expected, { device: "cuda", ...(attentionMask !== undefined && { attentionMask }) }), (ours) => {
      for (const name of ["encoder_last_hidden_state", "logits"]) {
        t.deepEqual(ours.shape(name), expected.shape(name));
        const [, frames = 0] = ours.shape(name);
        const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, frames, rows);
        t.log(`${name}: relative error ${error}`);
        t.true(error < 4e-2, `${name}: relative error ${error}`);
      }
    });
  });
}
