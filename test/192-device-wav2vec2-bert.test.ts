/** w2v-BERT 2.0 on the GPU. */
import { assertClose } from "./gpu.js";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
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
  type Adapter,
} from "../lib/index.js";
import { checkTrainableOnGpu } from "../lib/models/device_training.js";
import { describeModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { randomAdapter } from "./adapters.js";
import { assertSameStep, heldByBfloat16, trainingStep, type Step } from "./device_steps.js";
import { randomTensor, randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { readExpected, relativeError, throughFile } from "./reference.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("device-wav2vec2-bert");
test.after.always(folder.clean);

const base = {
  model_type: "wav2vec2-bert",
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
  feature_projection_input_dim: 32,
  conv_depthwise_kernel_size: 7,
  left_max_position_embeddings: 4,
  right_max_position_embeddings: 2,
  vocab_size: 9,
};
const kinds: Readonly<Record<string, object>> = {
  clipped: base,
  // Around the kink of relu a gradient rounded to bfloat16 is another: most activations are smooth.
  adapter: { ...base, adapter_act: "swish", add_adapter: true, use_intermediate_ffn_before_adapter: true, output_hidden_size: 16 },
  relative: { ...base, position_embeddings_type: "relative", hidden_act: "gelu", adapter_act: "gelu", add_adapter: true },
  rotary: { ...base, position_embeddings_type: "rotary", hidden_act: "relu" },
};
const vocabulary = { "<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, A: 5, B: 6, C: 7, D: 8 };

function write(kind: string): string {
  const preprocessor = { feature_extractor_type: "SeamlessM4TFeatureExtractor", num_mel_bins: 16 };
  const model = writeRandomModel(join(folder.path, kind), kinds[kind] as object, preprocessor);
  writeFileSync(join(model, "vocab.json"), JSON.stringify(vocabulary));
  return model;
}
const models = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, write(kind)]));

const lengths = [21, 0, 34];
const frames = lengths.map((length, index) => randomValues(32 * length, index + 1));

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
    const packed = Tensor.from(Float32Array.from(items.flatMap((item) => [...(frames[item] as Float32Array)])), [offsets.frames, 32]);
    const features = device === "cuda" ? DeviceTensor.from(packed) : packed;
    const hidden = new SequenceOffsets(offsets.lengths.map((count) => network.hiddenFrames(count)));
    const adapters = adaptersOf?.(new AdapterBase(loaded));
    const pass = (): Float32Array => network.forward(features, offsets).logits.toArray();
    const all = adapters
      ? withAdapters({ kind: "sequences", offsets: hidden, adapters: adapters.map((one) => one?.factors) }, pass)
      : pass();
    for (const adapter of adapters ?? []) adapter?.dispose();
    network.dispose();
    return hidden.lengths.map((count, index) => all.slice(hidden.begin(index) * 9, (hidden.begin(index) + count) * 9));
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
      if (item !== 1) assertClose(t, together[item] as Float32Array, expected, 3e-2, `${kind}, sequence ${item}`);
    });
    assertClose(t, logits(model, "cuda", [2])[0] as Float32Array, together[2] as Float32Array, 2e-2, `${kind}, alone`);
  });
}

test.serial("passes are recorded for lengths that come again, and longer ones make longer tables of distances", (t) => {
  const [onGpu, onCpu] = (["cuda", "cpu"] as const).map((device) => loadModel(models["adapter"] as string, { device }).network) as [
    CtcNetwork,
    CtcNetwork,
  ];
  for (const heard of [
    [20, 12],
    [20, 12],
    [11, 19],
    [50, 3],
    [19, 12],
  ]) {
    tidy(() => {
      const offsets = new SequenceOffsets(heard);
      const values = randomTensor([offsets.frames, 32], offsets.frames);
      const found = onGpu.forward(DeviceTensor.from(values), offsets).logits.toArray();
      assertClose(t, found, onCpu.forward(values, offsets).logits.toArray(), 3e-2, heard.join());
    });
  }
  for (const network of [onGpu, onCpu]) network.dispose();
});

test.serial("packed weights, the adapter's convolutions among them", async (t) => {
  const out = join(folder.path, "packed");
  const recipe = roundToNearest("int4+2:4", { "*.adapter.layers.0.*_conv": "int8", "*.adapter.proj": "int8", lm_head: "int8" });
  await compressModel({ model: models["adapter"] as string, recipe, manifest: undefined, out });
  const [cpu, gpu] = [logits(out, "cpu", [0, 2]), logits(out, "cuda", [0, 2])];
  cpu.forEach((expected, item) => assertClose(t, gpu[item] as Float32Array, expected, 3e-2, `${item}`));
});

test.serial("each sequence is heard with its own adapter", (t) => {
  const model = models["adapter"] as string;
  const adapters = (all: AdapterBase): (Adapter | undefined)[] => [randomAdapter(all, 3, 1), undefined, undefined];
  const [cpu, gpu, plain] = [
    logits(model, "cpu", [0, 1, 2], adapters),
    logits(model, "cuda", [0, 1, 2], adapters),
    logits(model, "cuda", [0, 1, 2]),
  ];
  assertClose(t, gpu[0] as Float32Array, cpu[0] as Float32Array, 3e-2, "adapted");
  t.notDeepEqual(gpu[0], plain[0]);
  t.deepEqual(gpu[2], plain[2], "who has no adapter gets, to the bit, what he would alone");
});

test.serial("recordings are transcribed on the GPU", (t) => {
  const model = models["clipped"] as string;
  t.is(loadModel(model, { device: "auto" }).device, "cuda");
  const speech = [tones(0.3, 1), tones(0.5, 2)];
  const [cpu, gpu] = (["cpu", "cuda"] as const).map((device) => {
    const recognizer = new Recognizer(loadModel(model, { device }), { decoder: "greedy" });
    return recognizer.forward(speech.map((samples) => recognizer.featureChunk(samples)));
  }) as [ReturnType<Recognizer["forward"]>, ReturnType<Recognizer["forward"]>];
  gpu.forEach((chunk, index) => {
    t.deepEqual([chunk.frames, chunk.tokens], [cpu[index]?.frames, cpu[index]?.tokens]);
    assertClose(t, chunk.values, cpu[index]?.values as Float32Array, 3e-2, `chunk ${index}`);
  });
});

/** Fresh biases are zero, and fresh attention is the mean of all frames. */
function warmedUp(kind: string): TrainableNetwork {
  const network = describeModel({ ...kinds[kind], ctc_loss_reduction: "mean" } as never, "config.json").network(new FreshWeights(5));
  for (const [name, tensor] of (network as CtcNetwork).parameters()) {
    if (/bias(_[uv])?$/.test(name)) tensor.write(tensor.toArray().map((_, i) => 0.1 * Math.sin(i + name.length)));
    if (/linear_[qk]\.weight$/.test(name)) tensor.write(tensor.toArray().map((value) => 2 * value));
  }
  return trainableNetwork({ network, folder: kind });
}

for (const kind of Object.keys(kinds)) {
  test.serial(`${kind}: a training step on the GPU is that of the CPU`, (t) => {
    const offsets = new SequenceOffsets([23, 36]);
    const features = heldByBfloat16(randomTensor([offsets.frames, 32], 8));
    const targets = [
      [3, 5, 5],
      [1, 2, 7, 4],
    ];
    const step = (device: "cpu" | "cuda"): Step =>
      tidy(() =>
        trainingStep(
          () => warmedUp(kind),
          { features, offsets, targets, audioSeconds: 1 },
          device,
          (network) => network.linearWeights(),
        ),
      );
    assertSameStep(t, step("cuda"), step("cpu"));
  });
}

test("sizes that the kernels do not take compute and train on the CPU", (t) => {
  const weights = (change: object): RegExp | undefined =>
    describeModel({ ...base, ...change } as never, "config.json").gpuWeights;
  t.true(weights({}) instanceof RegExp);
  for (const change of [
    { hidden_size: 40, num_attention_heads: 4 },
    { intermediate_size: 20 },
    { feature_projection_input_dim: 36 },
    { conv_depthwise_kernel_size: 129 },
    { hidden_size: 336 },
    { add_adapter: true, output_hidden_size: 24 },
    { add_adapter: true, output_hidden_size: 20 },
  ]) {
    t.is(weights(change), undefined, JSON.stringify(change));
  }
  t.true(weights({ output_hidden_size: 20 }) instanceof RegExp, "which nothing asks for without an adapter");
  const refused = (change: object, message: RegExp): void => {
    const { network } = { network: describeModel({ ...base, ...change } as never, "config.json").network(new FreshWeights(1)) };
    t.throws(() => checkTrainableOnGpu(network, "it"), { code: "UNSUPPORTED_MODEL", message });
  };
  refused({ conv_depthwise_kernel_size: 129 }, /it has conv_depthwise_kernel_size 129; on the GPU it can be up to 128/);
  refused({ add_adapter: true, output_hidden_size: 24 }, /it has heads of 12 values; on the GPU they are trained with 8, 16, .. 128/);
  refused({ feature_projection_input_dim: 36 }, /it has feature_projection_input_dim 36; on the GPU it must be a multiple of 8/);
});

test.serial("relative: the GPU computes what transformers does", (t) => {
  const reference = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models", "wav2vec2_bert_relative");
  const { network } = loadModel(reference, { device: "cuda" });
  using expected = readExpected(reference);
  const rows = [...expected.values("lengths")].map(Number);
  throughFile(paddedForward(network, expected, { device: "cuda" }), (ours) => {
    for (const name of ["encoder_last_hidden_state", "logits"]) {
      t.deepEqual(ours.shape(name), expected.shape(name));
      const [, count = 0] = ours.shape(name);
      const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, count, rows);
      t.log(`${name}: relative error ${error}`);
      t.true(error < 4e-2, `${name}: relative error ${error}`);
    }
  });
});
