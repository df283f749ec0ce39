/** wav2vec 2.0, HuBERT and wav2vec2-conformer on the GPU. */
import { assertClose, realGpu } from "./gpu.js";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import {
  AdapterBase,
  compressModel,
  DeviceTensor,
  gpuMemoryStatistics,
  loadModel,
  readSafetensors,
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
import { randomAdapter } from "./adapters.js";
import { randomTensor, randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { maskLengths, readExpected, referenceFolder, relativeError, throughFile } from "./reference.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("device-wav2vec2");
test.after.always(folder.clean);
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
    conv_pos_batch_norm: true,
    adapter_attn_dim: 8,
  },
  "conformer, relative": { model_type: "wav2vec2-conformer", ...base, hidden_act: "swish", conv_depthwise_kernel_size: 7 },
  "conformer, rotary": {
    model_type: "wav2vec2-conformer",
    ...base,
    position_embeddings_type: "rotary",
    hidden_act: "relu",
    feat_extract_activation: "relu",
    conv_depthwise_kernel_size: 5,
  },
  adapter: {
    model_type: "wav2vec2",
    ...base,
    hidden_act: "silu",
    feat_extract_activation: "silu",
    add_adapter: true,
    num_adapter_layers: 2,
    output_hidden_size: 32,
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

test.serial("adapters for a language and batch normalization give on the GPU what transformers gives", (t) => {
  for (const [name, language] of [["mms", "eng"], ["mms", "fra"], ["hubert_batch_norm"]] as [string, string?][]) {
    const path = join(fixtures, name);
    const { network, frontEnd } = loadModel(path, { device: "cuda", language });
    using expected = readSafetensors(join(path, language === "fra" ? "expected.fra.safetensors" : "expected.safetensors"));
    throughFile(paddedForward(network, expected, { ...frontEnd.config, device: "cuda" }), (ours) => {
      const [values, wanted] = [ours.values("logits"), expected.values("logits")] as [Float32Array, Float32Array];
      assertClose(t, values, wanted, 3e-2, `${name} ${language}`);
    });
    network.dispose();
  }
});

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

const ownAdapters = (t: ExecutionContext, kind: string): void => {
  const model = models[kind] as string;
  const adapters = (base: AdapterBase): (Adapter | undefined)[] => [randomAdapter(base, 3, 1), undefined, undefined];
  const [cpu, gpu, plain] = [
    logits(model, "cpu", [0, 1, 2], adapters),
    logits(model, "cuda", [0, 1, 2], adapters),
    logits(model, "cuda", [0, 1, 2]),
  ];
  assertClose(t, gpu[0] as Float32Array, cpu[0] as Float32Array, 3e-2, "adapted");
  t.notDeepEqual(gpu[0], plain[0]);
  t.deepEqual(gpu[2], plain[2], "who has no adapter gets, to the bit, what he would alone");
};
test.serial("each sequence is heard with its own adapter, before GELU too", ownAdapters, "base");
test.serial("each sequence is heard with its own adapter, before and behind what shortens it", ownAdapters, "adapter");

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
