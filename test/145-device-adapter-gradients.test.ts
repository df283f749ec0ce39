/** Adapters on the GPU: what goes back through them. */
import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceTensor, Tape, Tensor, tidy } from "../lib/operations.js";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import { freshAdapter } from "../lib/adapt/adapter.js";
import { adaptableLayers } from "../lib/adapt/adaptable_layers.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import { featuresOnDevice, removeFromGpu } from "../lib/device/placement.js";
import { placeFrozen } from "../lib/models/device_training.js";
import { describeModel } from "../lib/models/model_folder.js";
import { trainableNetwork } from "../lib/models/trainable.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { lowRankSum } from "../lib/ops/low_rank.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { heldByBfloat16 } from "./device_steps.js";
import { randomTensor } from "./gradient.js";
import { OneBatch, trainableConfigs } from "./trainable_models.js";

/** Values that bfloat16 holds, so that both devices compute with the same. */
const rounded = (shape: readonly number[], seed: number): Tensor => tidy(() => DeviceTensor.from(randomTensor(shape, seed)).toTensor());

test.serial("a low-rank sum and its gradients are those of the CPU", (t) => {
  for (const [rows, input, out, rank, probability] of [
    [5, 16, 24, 1, 0],
    [133, 40, 32, 9, 0.25],
    [33, 24, 8, 4, 0],
  ] as const) {
    const tensors = {
      y: rounded([rows, out], 1),
      x: rounded([rows, input], 2),
      down: randomTensor([rank, input], 3),
      up: randomTensor([rank, out], 4),
    };
    const seed = rounded([rows, out], 5);
    const run = (device: "cpu" | "cuda", learns: boolean): Record<string, Float32Array> =>
      tidy(() => {
        const place = (tensor: Tensor, name: string): Tensor => {
          if (device === "cpu") return tensor.clone();
          if (name.length === 1) return DeviceTensor.from(tensor);
          return learns ? DeviceParameter.place(tensor) : tensor.clone(); // factors that do not learn go to the GPU when they are needed
        };
        const placed = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, place(tensor, name)])) as typeof tensors;
        const { y, x, down, up } = placed;
        for (const tensor of learns ? [y, x, down, up] : [y, x]) tensor.requiresGrad = true;
        using tape = new Tape();
        const options = { scale: 0.5, ...(probability > 0 && { dropout: { probability, seed: 7 } }) };
        const sum = tape.record(() => lowRankSum(y, x, { down, up }, options));
        const values = sum.toArray();
        tape.backward(sum, device === "cpu" ? seed.clone() : DeviceTensor.from(seed));
        const gradients = Object.entries(placed).flatMap(([name, tensor]) =>
          tensor.requiresGrad ? [[name, (tape.gradientOf(tensor) as Tensor).toArray()] as const] : [],
        );
        for (const factor of [down, up]) removeFromGpu(factor);
        return { sum: values, ...Object.fromEntries(gradients) };
      });
    for (const learns of [true, false]) {
      const [expected, found] = [run("cpu", learns), run("cuda", learns)];
      t.deepEqual(Object.keys(found), Object.keys(expected));
      for (const [name, values] of Object.entries(expected))
        assertClose(t, found[name] as Float32Array, values, 1.5e-2, `${rows} rows, rank ${rank}, ${name}`);
    }
  }
  const [down, up] = [randomTensor([2, 8], 2), randomTensor([2, 8], 3)];
  down.requiresGrad = true;
  const misplaced = (): Tensor => tidy(() => lowRankSum(DeviceTensor.zeros([4, 8]), DeviceTensor.zeros([4, 8]), { down, up }));
  t.throws(misplaced, { code: "INVALID_ARGUMENT", message: /an adapter that learns is on the CPU/ });
});

/** Loss of a network with an adapter on all layers, and the gradients of its factors. */
function gradients(family: string, device: "cpu" | "cuda"): { loss: number; factors: Map<string, Float32Array> } {
  return tidy(() => {
    const { encoder_config, ...config } = trainableConfigs[family] as Record<string, object>;
    const larger = encoder_config && {
      encoder_config: { ...encoder_config, hidden_size: 32, num_hidden_layers: 1, intermediate_size: 64, subsampling_conv_channels: 16 },
    };
    const fresh = describeModel({ ...config, ...larger } as JsonObject, family).network(new FreshWeights(5));
    const onCpu = trainableNetwork({ network: fresh, folder: family });
    for (const [name, tensor] of onCpu.parameters()) {
      if (/([qk]_proj|linear_[qk])\.weight$/.test(name)) tensor.write(tensor.toArray().map((value) => 2 * value)); // fresh attention is the mean of all frames
      if (/embed_tokens|embed_positions|pos_emb/.test(name)) tensor.write(tensor.toArray().map((value) => 10 * value)); // fresh embeddings are small
    }
    const batch = new OneBatch(onCpu).batch();
    const features = featuresOnDevice(heldByBfloat16(batch.features), device);
    const layers = adaptableLayers({
      network: onCpu,
      linearShapes: new Map(onCpu.blockWeights().map((name) => [name, (onCpu.parameters().get(name) as Tensor).shape])),
    });
    using adapter = freshAdapter(layers, 3, 1, device);
    for (const { down, up } of adapter.factors.values()) {
      up.write(
        randomTensor(up.shape, 9)
          .toArray()
          .map((value) => 0.3 * value),
      ); // a fresh one lets no gradient through to `down`
      down.requiresGrad = up.requiresGrad = true;
    }
    const network = device === "cpu" ? onCpu : placeFrozen(onCpu);
    using tape = new Tape();
    const scope = {
      kind: "all",
      adapters: [{ factors: adapter.factors, scale: 0.7 }],
      dropout: { probability: 0.1, random: new RandomStream(4) },
    } as const;
    const context = { training: false, random: new RandomStream(3), step: 0 };
    const { loss } = tape.record(() => withAdapters(scope, () => network.loss({ ...batch, features }, context)));
    tape.backward(loss);
    const factors = [...adapter.factors].flatMap(([name, pair]) =>
      (["down", "up"] as const).map((part) => [`${name} ${part}`, (tape.gradientOf(pair[part]) as Tensor).toArray()] as const),
    );
    for (const one of new Set([onCpu, network])) one.dispose();
    return { loss: loss.toArray()[0] as number, factors: new Map(factors) };
  });
}

test.serial("gradients of adapters of every family that the GPU trains are those of the CPU", (t) => {
  const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
  const families = [
    "lasr_ctc",
    "parakeet_ctc",
    "parakeet_rnnt",
    "wav2vec2",
    "wav2vec2-conformer relative",
    "wav2vec2-bert",
    "whisper",
    "cohere_asr",
  ];
  for (const family of families) {
    const [expected, found] = [gradients(family, "cpu"), gradients(family, "cuda")];
    t.true(Math.abs(found.loss / expected.loss - 1) < 1e-2, `${family}: loss ${found.loss}, not ${expected.loss}`);
    t.deepEqual([...found.factors.keys()], [...expected.factors.keys()]);
    const largest = Math.max(...[...expected.factors.values()].map((gradient) => Math.sqrt(dot(gradient, gradient))));
    for (const [name, gradient] of expected.factors) {
      const own = found.factors.get(name) as Float32Array;
      const [length, ownLength] = [Math.sqrt(dot(gradient, gradient)), Math.sqrt(dot(own, own))];
      const cosine = dot(gradient, own) / (length * ownLength);
      t.true(
        cosine > 0.99 && Math.abs(ownLength - length) < 0.05 * length + 0.01 * largest,
        `${family} ${name}: cosine ${cosine}, lengths ${ownLength} and ${length}`,
      );
    }
  }
});
