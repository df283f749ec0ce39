/** Training steps on the GPU: what the suites of training time. */
import { synchronizeGpu } from "../lib/device/device_stream.js";
import { gpuMemoryStatistics, resetPeakGpuMemory } from "../lib/device/gpu.js";
import { featuresOnDevice } from "../lib/device/placement.js";
import type { TrainedOnGpu } from "../lib/models/device_training.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import type { WeightSource } from "../lib/nn/weight_source.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { Tape } from "../lib/ops/tape.js";
import { fakeQuantize } from "../lib/quant/fake_quantize.js";
import { magnitudeMask } from "../lib/sparse/mask.js";
import { keep, tidy } from "../lib/tensor/scope.js";
import { SequenceOffsets } from "../lib/tensor/sequence_offsets.js";
import { Tensor } from "../lib/tensor/tensor.js";
import { AdamW } from "../lib/train/optimizer.js";
import type { TrainingContext } from "../lib/train/trainable_model.js";
import { timed, type Contestant } from "./measure.js";

/** Seconds of the utterances of a batch, and labels of each, four a second. */
export function trainingBatch(
  emulated: boolean,
  vocabulary: number,
): { readonly seconds: readonly number[]; readonly labels: readonly (readonly number[])[] } {
  const seconds = emulated ? [1] : Array.from({ length: 32 }, (_, i) => 10 + Math.round((10 * i) / 31));
  return {
    seconds,
    labels: seconds.map((duration, i) => Array.from({ length: duration * 4 }, (_, j) => 1 + ((j * 7 + i) % (vocabulary - 1)))),
  };
}

/** Weights in no time: a strip of random ones, again and again. */
export class RepeatedWeights implements WeightSource {
  private readonly strip: Float32Array;
  private readonly fresh = new FreshWeights(1);

  constructor() {
    const random = new RandomStream(1);
    this.strip = Float32Array.from({ length: 65_521 }, () => random.uniform() * 2 - 1);
  }

  tensor(name: string, shape: readonly number[], initialization: Parameters<FreshWeights["tensor"]>[2]): Tensor {
    if (shape.length < 2) return this.fresh.tensor(name, shape, initialization);
    const size = shape.reduce((product, extent) => product * extent, 1);
    const bound = Math.sqrt((6 * (shape[0] as number)) / (size + (shape[0] as number) ** 2)); // as Glorot
    const values = new Float32Array(size);
    for (let begin = 0; begin < size; begin += this.strip.length) values.set(this.strip.subarray(0, size - begin), begin);
    return keep(
      Tensor.from(
        values.map((value) => value * bound),
        shape,
      ),
    );
  }

  matrix(name: string, shape: readonly number[], initialization: Parameters<FreshWeights["tensor"]>[2]): Tensor {
    return this.tensor(name, shape, initialization);
  }

  has(): boolean {
    return false;
  }
}

/** A network on the GPU with its optimizer and one batch, its weights in blocks int4+2:4 by fake quantization. */
export class DeviceTraining {
  readonly parameters: number;
  /** Of GPU memory, at its highest in the last turn of {@link DeviceTraining.contestant}. */
  peakBytes = 0;
  private readonly optimizer: AdamW;
  private readonly masks: ReadonlyMap<string, Tensor>;
  private readonly features: Tensor;
  private readonly offsets: SequenceOffsets;
  private readonly random = new RandomStream(1);
  private steps = 0;

  constructor(
    private readonly network: TrainedOnGpu,
    lengths: readonly number[],
    private readonly targets: readonly (readonly number[])[],
  ) {
    const parameters = network.parameters();
    for (const parameter of parameters.values()) parameter.requiresGrad = true;
    this.parameters = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
    this.optimizer = new AdamW(parameters);
    this.masks = new Map(network.blockWeights().map((name) => [name, keep(magnitudeMask(parameters.get(name) as Tensor, 2, 4))]));
    this.offsets = new SequenceOffsets(lengths);
    const bins = network.featureSize;
    using values = Tensor.from(
      Float32Array.from({ length: this.offsets.frames * bins }, (_, i) => ((i * 2654435761) % 1024) / 512 - 1),
      [this.offsets.frames, bins],
    );
    this.features = featuresOnDevice(values, "cuda");
  }

  /** Gives back all memory of the GPU, the network's too. */
  dispose(): void {
    this.optimizer.dispose();
    for (const tensor of [this.features, ...this.masks.values()]) tensor.dispose();
    this.network.dispose();
  }

  readonly contestant: Contestant = {
    impl: "usm-lite",
    spec: "int4+2:4",
    run: (repetitions) => {
      resetPeakGpuMemory();
      const times = timed(() => this.step(), repetitions);
      this.peakBytes = gpuMemoryStatistics().peakBytes;
      return times;
    },
  };

  private step(): void {
    tidy(() => {
      const context: TrainingContext = {
        training: true,
        random: this.random,
        step: this.steps++,
        transformWeight: (name, weight) => {
          const mask = this.masks.get(name);
          return mask ? fakeQuantize(weight, "int4+2:4", { mask, stopScaleGradient: true, type: "bfloat16" }) : weight;
        },
      };
      using tape = new Tape();
      const { loss } = tape.record(() =>
        this.network.loss({ features: this.features, offsets: this.offsets, targets: this.targets, audioSeconds: 1 }, context),
      );
      tape.backward(loss);
      this.optimizer.step((parameter) => tape.gradientOf(parameter), 1e-4, { maximumNorm: 1 });
    });
    synchronizeGpu();
  }
}
