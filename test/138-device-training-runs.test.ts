import { assertClose } from "./gpu.js";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import test from "ava";
import {
  DeviceWeight,
  SequenceOffsets,
  type SpecAugmentMasks,
  Tensor,
  Trainer,
  warmupConstant,
  type BatchSource,
  type TrainableModel,
  type TrainingModifier,
  type Validation,
} from "../lib/index.js";
import { placeForTraining } from "../lib/models/device_training.js";
import { parseLasrConfig } from "../lib/models/lasr/lasr_config.js";
import { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { parseWeightSpec } from "../lib/quant/weight_spec.js";
import { WeightPruning } from "../lib/train/weight_pruning.js";
import { WeightQuantization } from "../lib/train/weight_quantization.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("device-training-runs");
test.after.always(folder.clean);

const config = parseLasrConfig(
  {
    model_type: "lasr_ctc",
    vocab_size: 7,
    encoder_config: {
      hidden_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 32,
      conv_kernel_size: 4,
      num_mel_bins: 16,
      subsampling_conv_channels: 8,
      subsampling_conv_kernel_size: 3,
      layerdrop: 0,
    },
  },
  "test",
);

/** The same two utterances again and again; at `spoilt` they hold infinity. */
const batches = (spoilt?: number): BatchSource => {
  let asked = 0;
  return {
    count: () => 1,
    batch: () => {
      const offsets = new SequenceOffsets([38, 31]);
      const values = asked++ === spoilt ? new Float32Array(offsets.frames * 16).fill(Infinity) : randomValues(offsets.frames * 16, 5);
      return {
        features: Tensor.from(values, [offsets.frames, 16]),
        offsets,
        targets: [
          [1, 2, 2],
          [3, 1],
        ],
        audioSeconds: 1,
      };
    },
  };
};

interface Run {
  readonly trainer: Trainer;
  readonly model: TrainableModel;
}

/** A run whose weights in blocks become int4+2:4, gradually and with searched scales; dropout as the configuration has it. */
function runOf(name: string, totalSteps: number, device: "cpu" | "cuda", source = batches(), validation?: Validation): Run {
  const network = new LasrForCtc(config, new FreshWeights(1));
  const model = device === "cuda" ? placeForTraining(network) : network;
  const names = model.blockWeights();
  const pruning = new WeightPruning(model, new Map(names.map((weight) => [weight, { kept: 2, of: 4 }])), {
    schedule: { kind: "few-shot", start: 1, shots: 2, interval: 2 },
    gradual: true,
  });
  const specs = new Map(names.map((weight) => [weight, parseWeightSpec("int4+2:4")]));
  const modifiers: TrainingModifier[] = [
    pruning,
    new WeightQuantization(model, specs, { masks: pruning.masks, rule: { search: { steps: 4, lowest: 0.5 } } }),
  ];
  const trainer = new Trainer(model, source, {
    folder: join(folder.path, name),
    totalSteps,
    schedule: warmupConstant({ peak: 0.01, warmupSteps: 2 }),
    averageDecay: 0.9,
    modifiers,
    checkpoints: { everySteps: 2, keep: 9 },
    ...(validation ? { validation } : {}),
  });
  return { trainer, model };
}

const metrics = (name: string): Record<string, unknown>[] =>
  readFileSync(join(folder.path, name, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => ({ ...(JSON.parse(line) as object), audioPerSecond: 0 }));
const checkpoint = (name: string, step: number): string => join(folder.path, name, "checkpoints", `step-0000000${step}.safetensors`);
const losses = (name: string): Float32Array => Float32Array.from(metrics(name), (line) => line["loss"] as number);

/** Goes on from the second step of another run, on a device. */
async function goOn(from: string, name: string, device: "cpu" | "cuda", totalSteps: number): Promise<void> {
  const copy = checkpoint(name, 2);
  mkdirSync(dirname(copy), { recursive: true });
  copyFileSync(checkpoint(from, 2), join(dirname(copy), basename(copy)));
  copyFileSync(join(folder.path, from, "metrics.jsonl"), join(folder.path, name, "metrics.jsonl"));
  const { trainer } = runOf(name, totalSteps, device);
  if (!trainer.resume()) throw new Error("there is no checkpoint");
  await trainer.run();
  trainer.dispose();
}

test.serial("masks that come apart from the features are hidden on the GPU", async (t) => {
  const masks: SpecAugmentMasks[] = [
    { bins: [[1, 16]], frames: [[4, 11]] },
    { bins: [], frames: [[0, 29]] },
  ];
  const asked: (boolean | undefined)[] = [];
  const source: BatchSource = {
    count: () => 1,
    batch: (epoch, index, masksApart) => {
      asked.push(masksApart);
      const batch = batches().batch(epoch, index);
      if (masksApart) return { ...batch, masks };
      const values = batch.features.toArray();
      masks.forEach(({ bins, frames }, item) => {
        const begin = batch.offsets.begin(item) * 16;
        const own = values.subarray(begin, begin + (batch.offsets.lengths[item] as number) * 16);
        const mean = own.reduce((sum, value) => sum + value, 0) / own.length;
        for (const [first, last] of bins) for (let at = 0; at < own.length; at += 16) own.fill(mean, at + first, at + last);
        for (const [first, last] of frames) own.fill(mean, first * 16, last * 16);
      });
      return { ...batch, features: Tensor.from(values, batch.features.shape) };
    },
  };
  for (const [name, device, given] of [
    ["masked-cuda", "cuda", source],
    ["masked-cpu", "cpu", source],
    ["unmasked-cuda", "cuda", batches()],
  ] as const) {
    const { trainer } = runOf(name, 1, device, given);
    await trainer.run();
    trainer.dispose();
  }
  t.deepEqual(asked, [true, false]);
  // Losses of a network that knows nothing yet are much alike.
  const norms = ["masked-cuda", "masked-cpu", "unmasked-cuda"].map((name) => metrics(name)[0]?.["gradientNorm"] as number);
  const [onGpu, onCpu, unmasked] = norms as [number, number, number];
  t.true(Math.abs(onGpu / onCpu - 1) < 2e-2, `gradients are ${onGpu} long, not ${onCpu}`);
  t.true(Math.abs(unmasked / onCpu - 1) > 0.1, `what is hidden matters: ${onCpu}, not ${unmasked}`);
});

test.serial("a run on the GPU learns what one on the CPU does", async (t) => {
  for (const device of ["cuda", "cpu"] as const) {
    const { trainer } = runOf(device, 4, device);
    t.true((await trainer.run()).completed);
    trainer.dispose();
  }
  assertClose(t, losses("cuda"), losses("cpu"), 1e-2, "losses");
  const [first, , , last] = losses("cuda") as unknown as number[];
  t.true((last as number) < 0.85 * (first as number), `${first} to ${last}`);
  for (const step of [1, 3]) {
    const [found, expected] = (["cuda", "cpu"] as const).map((device) => metrics(device)[step]?.["maskChanges"] as number) as [
      number,
      number,
    ];
    t.true(expected > 0.2 && Math.abs(found - expected) < 0.02, `masks of step ${step} change ${found}, not ${expected}`);
  }
});

test.serial("it continues to the same bits, and on the other device in the same way", async (t) => {
  await goOn("cuda", "resumed", "cuda", 4);
  t.deepEqual(readFileSync(checkpoint("resumed", 4)), readFileSync(checkpoint("cuda", 4)));
  t.deepEqual(metrics("resumed"), metrics("cuda"));
  await goOn("cuda", "to-cpu", "cpu", 4);
  await goOn("cpu", "to-gpu", "cuda", 3);
  assertClose(t, losses("to-cpu"), losses("cuda"), 1e-2, "from the GPU to the CPU");
  assertClose(t, losses("to-gpu"), losses("cpu").slice(0, 3), 1e-2, "from the CPU to the GPU");
});

test.serial("layers multiply in whole numbers, as the packed model will", async (t) => {
  for (const device of ["cuda", "cpu"] as const) {
    const network = new LasrForCtc(config, new FreshWeights(1));
    const model = device === "cuda" ? placeForTraining(network) : network;
    const quantization = new WeightQuantization(model, new Map(model.linearWeights().map((name) => [name, parseWeightSpec("int4")])), {
      activations: "int8",
    });
    let products = 0;
    const packed = quantization.packedWeight.bind(quantization);
    quantization.packedWeight = (name, weight) => {
      const found = packed(name, weight);
      if (found instanceof DeviceWeight) products++;
      return found;
    };
    const trainer = new Trainer(model, batches(), {
      folder: join(folder.path, `int8-${device}`),
      totalSteps: 2,
      schedule: warmupConstant({ peak: 0.01, warmupSteps: 1 }),
      modifiers: [quantization],
    });
    await trainer.run();
    trainer.dispose();
    t.is(products, device === "cuda" ? 2 * model.linearWeights().length : 0);
  }
  assertClose(t, losses("int8-cuda"), losses("int8-cpu"), 1e-2, "losses");
});

test.serial("a step that is not finite leaves weights and statistics as they were", async (t) => {
  const { trainer, model } = runOf("spoilt", 1, "cuda", batches(0));
  const tensors = [...model.parameters().values(), ...model.buffers().values()];
  const before = tensors.map((tensor) => tensor.toArray());
  await t.throwsAsync(trainer.run(), { code: "TRAINING_DIVERGED" }); // as the only step it has
  t.is(metrics("spoilt")[0]?.["skipped"], true);
  t.deepEqual(
    tensors.map((tensor) => tensor.toArray()),
    before,
  );
});

test.serial("steps with a learned scale that is none are skipped, and end the run; on the CPU they are refused", async (t) => {
  for (const [device, code, message] of [
    ["cuda", "TRAINING_DIVERGED", /2 steps in a row/],
    ["cpu", "INVALID_ARGUMENT", /a scale is nan/],
  ] as const) {
    const network = new LasrForCtc(config, new FreshWeights(1));
    const model = device === "cuda" ? placeForTraining(network) : network;
    const quantization = new WeightQuantization(
      model,
      new Map([["encoder.layers.0.feed_forward1.linear2.weight", parseWeightSpec("int4/g32/dq")]]),
      { learned: true },
    );
    const options = {
      folder: join(folder.path, `no-scale-${device}`),
      totalSteps: 4,
      schedule: warmupConstant({ peak: 0.01, warmupSteps: 0 }),
      modifiers: [quantization],
    };
    const trainer = new Trainer(model, batches(), options);
    const [scale] = quantization.parameters().values() as Iterable<Tensor>;
    (scale as Tensor).write((scale as Tensor).toArray().map((value, i) => (i === 3 ? NaN : value)));
    const before = [...model.parameters().values()].map((tensor) => tensor.toArray());
    await t.throwsAsync(trainer.run(), { code, message });
    t.deepEqual(
      [...model.parameters().values()].map((tensor) => tensor.toArray()),
      before,
    );
    trainer.dispose();
  }
});

test.serial("validation sees the averaged weights, which can be adopted", async (t) => {
  let seen: Float32Array | undefined;
  const run: Run = runOf("adopted", 1, "cuda", batches(), {
    everySteps: 1,
    run: () => Promise.resolve({ weights: (seen = weightOf(run)).length }),
  });
  const { trainer, model } = run;
  await trainer.run();
  const [name] = model.linearWeights() as [string];
  const average = trainer.weights().get(name)?.toArray();
  t.deepEqual(seen, average);
  t.notDeepEqual(weightOf(run), average);
  trainer.adoptAverage();
  t.deepEqual(weightOf(run), average);
});

const weightOf = ({ model }: Run): Float32Array => (model.parameters().get(model.linearWeights()[0] as string) as Tensor).toArray();
