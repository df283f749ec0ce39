import { assertClose } from "./gpu.js";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import {
  compressModel,
  DeviceSequences,
  DeviceTensor,
  gpuMemoryStatistics,
  loadModel,
  parseRecipe,
  placeForTraining,
  SequenceOffsets,
  Tensor,
  tidy,
  type TrainingBatch,
} from "../lib/index.js";
import { featuresOnDevice } from "../lib/device/placement.js";
import { deviceGroupedProducts, deviceWeightNorm } from "../lib/device/positional_convolution_training.js";
import { describeModel } from "../lib/models/model_folder.js";
import type { Wav2Vec2ForCtc } from "../lib/models/wav2vec2/wav2vec2_for_ctc.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { trainedGroupedConvolution } from "../lib/ops/device_grouped_convolution.js";
import { scaledSum } from "../lib/ops/elementwise.js";
import { gelu } from "../lib/ops/gelu.js";
import { groupedConvolution } from "../lib/ops/grouped_convolution.js";
import { reshape } from "../lib/ops/reshape.js";
import { rotateRows } from "../lib/ops/rotary_embedding.js";
import { swapLastAxes } from "../lib/ops/swap_axes.js";
import { weightNorm } from "../lib/ops/weight_norm.js";
import { gradientsOnCpu, gradientsOnGpu } from "./device_gradients.js";
import { assertSameStep, heldByBfloat16, trainingStep, type Step } from "./device_steps.js";
import { randomTensor, randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder, tones, writeWav } from "./tiny_model.js";

const folder = temporaryFolder("device-wav2vec2-training");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);
const invalid = { code: "INVALID_ARGUMENT" } as const;

test("the positional convolution and its gradients stay within sequences and groups", (t) => {
  for (const { lengths, groups, size, kernel, leftPadding } of [
    { lengths: [3, 0, 37, 5], groups: 3, size: 16, kernel: 7, leftPadding: 3 },
    { lengths: [20], groups: 1, size: 24, kernel: 16, leftPadding: 8 },
    { lengths: [6, 2], groups: 2, size: 8, kernel: 32, leftPadding: 31 },
    { lengths: [5], groups: 1, size: 8, kernel: 1, leftPadding: 0 },
  ])
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const width = groups * size;
      const what = `[${lengths.join()}], ${groups} groups of ${size}, ${kernel} frames`;
      const x = DeviceTensor.from(randomTensor([offsets.frames, width], 1));
      const weight = DeviceTensor.from(heldByBfloat16(randomTensor([width, kernel * size], 2)), "float32");
      const bias = DeviceTensor.from(randomTensor([width], 3), "float32");
      const gradient = DeviceTensor.from(randomTensor([offsets.frames, width], 4));
      const onCpu = ([y, w, b]: Tensor[]): Tensor => {
        const convolved = groupedConvolution(y as Tensor, reshape(w as Tensor, [width, kernel, size]), b as Tensor, offsets, {
          groups,
          leftPadding,
        });
        return scaledSum(y as Tensor, 1, gelu(convolved), 1);
      };
      const onDevice = ([y, w, b]: Tensor[]): Tensor =>
        trainedGroupedConvolution(y as DeviceTensor, w as DeviceTensor, b as Tensor, offsets, {
          groups,
          leftPadding,
          activation: "gelu",
          residual: y as Tensor,
        });
      const inputs = [x, weight, bias];
      assertClose(t, onDevice(inputs).toArray(), onCpu(inputs.map((input) => input.toTensor())).toArray(), 2 ** -7, what);
      const expected = gradientsOnCpu(inputs, gradient, onCpu);
      const found = gradientsOnGpu(inputs, gradient.clone(), onDevice);
      expected.forEach((values, i) => assertClose(t, found[i] as Float32Array, values, 2 ** -6, `input ${i}, ${what}`));
      if (groups === 3) t.deepEqual(gradientsOnGpu(inputs, gradient.clone(), onDevice), found, "the same bits again");
    });
});

test("weights are normalized tap by tap, and rotated rows are turned back", (t) => {
  for (const [out, taps, inputs] of [
    [24, 5, 8],
    [40, 1, 24],
  ] as const) {
    const gain = DeviceTensor.from(randomTensor([1, taps], 1), "float32");
    const direction = DeviceTensor.from(randomTensor([out, taps * inputs], 2), "float32");
    const gradient = DeviceTensor.from(randomTensor([out, taps * inputs], 3), "float32");
    const onCpu = ([g, d]: Tensor[]): Tensor => {
      const normalized = weightNorm(g as Tensor, swapLastAxes(reshape(d as Tensor, [out, taps, inputs])));
      return reshape(swapLastAxes(normalized), [out, taps * inputs]);
    };
    const onDevice = ([g, d]: Tensor[]): Tensor => weightNorm(g as Tensor, d as Tensor);
    assertClose(t, onDevice([gain, direction]).toArray(), onCpu([gain.toTensor(), direction.toTensor()]).toArray(), 1e-5, "weight");
    const expected = gradientsOnCpu([gain, direction], gradient, onCpu);
    gradientsOnGpu([gain, direction], gradient.clone(), onDevice).forEach((values, i) =>
      assertClose(t, values, expected[i] as Float32Array, 1e-4, `input ${i}, ${taps} taps`),
    );
  }
  const offsets = new SequenceOffsets([5, 9]);
  const [x, above] = [1, 2].map((seed) => DeviceTensor.from(randomTensor([14, 32], seed))) as [DeviceTensor, DeviceTensor];
  const rotate = ([y]: Tensor[]): Tensor => rotateRows(y as Tensor, offsets, 2, 10_000);
  assertClose(
    t,
    gradientsOnGpu([x], above.clone(), rotate)[0] as Float32Array,
    gradientsOnCpu([x], above, rotate)[0] as Float32Array,
    2 ** -7,
    "rotated back",
  );
});

test("misuse is a coded error", (t) => {
  const [x, sequences] = [DeviceTensor.zeros([4, 16]), new DeviceSequences(new SequenceOffsets([4]))];
  const products = (change: { x?: DeviceTensor; weight?: DeviceTensor; groups?: number; leftPadding?: number }): unknown =>
    deviceGroupedProducts(change.x ?? x, change.weight ?? DeviceTensor.zeros([16, 24]), sequences, {
      groups: 2,
      leftPadding: 1,
      ...change,
    });
  t.notThrows(() => products({}));
  t.throws(() => products({ groups: 3 }), { ...invalid, message: /3 groups cannot share equally/ });
  t.throws(() => products({ groups: 4 }), { code: "UNSUPPORTED_SPEC", message: /multiples of 8/ });
  t.throws(() => products({ weight: DeviceTensor.zeros([16, 20]) }), { ...invalid, message: /it must be bfloat16 \(out, kernel \* 8\)/ });
  t.throws(() => products({ weight: DeviceTensor.zeros([16, 24], "float16") }), { ...invalid, message: /weight is float16/ });
  t.throws(() => products({ leftPadding: 3 }), invalid);
  t.throws(() => products({ x: DeviceTensor.zeros([3, 16]) }), { ...invalid, message: /have 4 frames but x has 3/ });
  const taps = (gain: number[], direction: number[]): unknown =>
    deviceWeightNorm(DeviceTensor.zeros(gain, "float32"), DeviceTensor.zeros(direction, "float32"));
  t.throws(() => taps([1, 3], [4, 8]), { ...invalid, message: /gain has shape \(1, 3\) and direction \(4, 8\)/ });
  t.throws(() => taps([2, 4], [4, 8]), invalid);
});

const base = {
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 64,
  conv_dim: [16, 24, 16],
  conv_kernel: [10, 3, 2],
  conv_stride: [5, 2, 2],
  num_conv_pos_embeddings: 12,
  num_conv_pos_embedding_groups: 4,
  vocab_size: 9,
  ctc_loss_reduction: "mean",
};
const kinds = {
  wav2vec2: { model_type: "wav2vec2", ...base },
  "hubert, normalized first": {
    model_type: "hubert",
    ...base,
    feat_extract_norm: "layer",
    do_stable_layer_norm: true,
    conv_bias: true,
    num_conv_pos_embeddings: 7,
    conv_pos_batch_norm: true,
    adapter_attn_dim: 8,
  },
  "wav2vec2-conformer, relative": { model_type: "wav2vec2-conformer", ...base, hidden_act: "swish", conv_depthwise_kernel_size: 7 },
  "wav2vec2-conformer, rotary": {
    model_type: "wav2vec2-conformer",
    ...base,
    position_embeddings_type: "rotary",
    hidden_act: "gelu",
    conv_depthwise_kernel_size: 5,
  },
  "wav2vec2 with relu, silu and an adapter": {
    model_type: "wav2vec2",
    ...base,
    hidden_act: "relu",
    feat_extract_activation: "silu",
    add_adapter: true,
    num_adapter_layers: 1,
    output_hidden_size: 24,
  },
} as const satisfies Record<string, JsonObject>;
type Kind = keyof typeof kinds;

function fresh(kind: Kind, change: JsonObject = {}): TrainableNetwork {
  const network = describeModel({ ...kinds[kind], ...change }, "config.json").network(new FreshWeights(5));
  return trainableNetwork({ network, folder: kind });
}

/** Fresh biases are zero, fresh attention is the mean of all frames, fresh statistics are those of nothing. */
function warmedUp(kind: Kind): TrainableNetwork {
  const network = fresh(kind);
  for (const [name, tensor] of network.parameters()) {
    if (/bias(_[uv])?$/.test(name)) tensor.write(tensor.toArray().map((_, i) => 0.1 * Math.sin(i + name.length)));
    if (/(q_proj|k_proj|linear_q|linear_k)\.weight$/.test(name)) tensor.write(tensor.toArray().map((value) => 2 * value));
  }
  for (const [name, tensor] of network.buffers())
    tensor.write(tensor.toArray().map((value, i) => value * 0.5 + (name.endsWith("mean") ? 0.1 : 0.2) * Math.cos(i) ** 2));
  return network;
}

/** The same samples again and again. */
function batch(): TrainingBatch {
  const offsets = new SequenceOffsets([420, 610]);
  const features = heldByBfloat16(Tensor.from(randomValues(offsets.frames, 8), [offsets.frames, 1]));
  return {
    features,
    offsets,
    targets: [
      [3, 5, 5],
      [1, 2, 7, 4],
    ],
    audioSeconds: 1,
  };
}

const stepIsThatOfTheCpu = (t: ExecutionContext, kind: Kind): void => {
  const step = (device: "cpu" | "cuda"): Step =>
    tidy(() =>
      trainingStep(
        () => warmedUp(kind),
        batch(),
        device,
        (network) => network.linearWeights(),
      ),
    ); // frozen convolutions among them
  assertSameStep(t, step("cuda"), step("cpu"), /\.feature_extractor\./);
};
for (const kind of Object.keys(kinds) as Kind[])
  test.serial(`a training step on the GPU is that of the CPU: ${kind}`, stepIsThatOfTheCpu, kind);

test("a placed network hears with the weights that it has now", (t) => {
  tidy(() => {
    const { features, offsets } = batch();
    const logits = (network: Wav2Vec2ForCtc, x: Tensor): Float32Array => network.forward(x, offsets).logits.toArray();
    const samples = featuresOnDevice(features, "cuda");
    for (const [kind, changed] of [
      ["wav2vec2", "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"],
      ["hubert, normalized first", "hubert.encoder.pos_conv_embed.conv.weight"],
    ] as const) {
      const [placed, expected] = [placeForTraining(fresh(kind) as Wav2Vec2ForCtc), fresh(kind) as Wav2Vec2ForCtc];
      logits(placed, samples);
      for (const network of [placed, expected]) {
        const weight = network.parameters().get(changed) as Tensor;
        weight.write(weight.toArray().map((value) => 3 * value));
        network.weightsChanged();
      }
      assertClose(t, logits(placed, samples), logits(expected, features), 3e-2, kind);
      placed.dispose();
    }
  });
});

test("what the GPU has no kernels for is refused", (t) => {
  const refused = (kind: Kind, change: JsonObject, sentence: string): void =>
    void t.throws(() => placeForTraining(fresh(kind, change)), { code: "UNSUPPORTED_MODEL", message: (said) => said.includes(sentence) });
  const tooFewValues = 'heads of 4 values; on the GPU they are trained with 8, 16, .. 128; train it with device "cpu"';
  refused("wav2vec2", { num_attention_heads: 8 }, tooFewValues);
  const rule = "on the GPU it must be a multiple of 8";
  refused("wav2vec2", { conv_dim: [16, 20, 16] }, `has conv_dim[1] 20; ${rule}`);
  refused("hubert, normalized first", { adapter_attn_dim: 12 }, `has adapter_attn_dim 12; ${rule}`);
  refused("wav2vec2", { num_conv_pos_embedding_groups: 8 }, `has hidden_size / num_conv_pos_embedding_groups 4; ${rule}`);
  const wide = { conv_depthwise_kernel_size: 129 };
  refused("wav2vec2-conformer, rotary", wide, "has conv_depthwise_kernel_size 129; on the GPU it can be up to 128");
  t.notThrows(() => placeForTraining(fresh("wav2vec2-conformer, rotary", { num_conv_pos_embedding_groups: 8 })).dispose());
});

const lossesIn = (...run: string[]): Float32Array =>
  Float32Array.from(
    readFileSync(path(...run, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n"),
    (line) => (JSON.parse(line) as { loss: number }).loss,
  );

test.serial("recipes train wav2vec 2.0 on the GPU, its frozen convolutions in whole numbers", async (t) => {
  const model = writeRandomModel(path("float"), kinds.wav2vec2, {
    feature_extractor_type: "Wav2Vec2FeatureExtractor",
    return_attention_mask: true,
  });
  writeFileSync(join(model, "vocab.json"), JSON.stringify({ "<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, A: 5, B: 6, C: 7, D: 8 }));
  const manifest = path("manifest.jsonl");
  writeWav(path("clip.wav"), tones(0.1, 1));
  writeFileSync(manifest, JSON.stringify({ audio_filepath: "clip.wav", duration: 0.1, text: "A CAB" }));
  const training = { steps: 2, learningRate: 3e-3, warmUpSteps: 1, speedPerturbation: false, specAugment: false };
  const modifiers = [
    { type: "sparsity", pattern: "2:4", start: 1 },
    { type: "quantization", spec: "int4" },
    { type: "quantization", targets: ["*.conv_layers.1.conv", "*.intermediate_dense"], spec: "int8", activations: "int8" },
  ];
  const before = gpuMemoryStatistics().bytesInUse;
  const recipe = parseRecipe(JSON.stringify({ stages: [{ modifiers, training }] }), "r.yaml");
  for (const device of ["cuda", "cpu"] as const) {
    t.true(await compressModel({ model, recipe, manifest, out: path(`packed-${device}`), device }));
  }
  t.true(
    gpuMemoryStatistics().bytesInUse <= before + (16 << 10),
    "all memory of the GPU is given back, but for counters that a stream keeps",
  );
  assertClose(t, lossesIn("packed-cuda.run"), lossesIn("packed-cpu.run"), 2e-2, "losses");
  const [found, expected] = [loadModel(path("packed-cuda")), loadModel(path("packed-cpu"))].map(({ compression }) =>
    [...compression.specs].map(([name, { text }]) => `${name} ${text}`),
  );
  t.deepEqual(found, expected);
  t.true((found as string[]).includes("wav2vec2.encoder.layers.0.attention.k_proj.weight int4+2:4"));
});
