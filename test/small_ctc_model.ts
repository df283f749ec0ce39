/** A model and a data source small enough to train within a test. */
import type { BatchSource } from "../lib/data/batch_source.js";
import { ctcLoss, keep, SequenceOffsets, Tensor } from "../lib/operations.js";
import { linear } from "../lib/ops/linear.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import type { BatchLoss, TrainableModel, TrainingBatch, TrainingContext } from "../lib/index.js";
import { randomTensor, randomValues } from "./gradient.js";

const features = 8;
const vocabulary = 5;

/** Two linear layers with dropout between them, and a running mean of the input as its only buffer. */
export class SmallCtcModel implements TrainableModel {
  readonly weights = new Map<string, Tensor>();
  readonly runningMean = keep(Tensor.zeros([features]));
  changes = 0;

  constructor(hidden = 16, seed = 1) {
    this.weights.set("input.weight", keep(randomTensor([hidden, features], seed)));
    this.weights.set("input.bias", keep(Tensor.zeros([hidden])));
    this.weights.set("output.weight", keep(randomTensor([vocabulary, hidden], seed + 1)));
    this.weights.set("output.bias", keep(Tensor.zeros([vocabulary])));
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return new Map([["running_mean", this.runningMean]]);
  }

  linearWeights(): readonly string[] {
    return ["input.weight", "output.weight"];
  }

  weightsChanged(): void {
    this.changes++;
  }

  logits(x: Tensor, context: TrainingContext): Tensor {
    const weight = (name: string): Tensor => {
      const stored = this.weights.get(`${name}.weight`) as Tensor;
      return context.transformWeight?.(`${name}.weight`, stored) ?? stored;
    };
    const hidden = linear(x, weight("input"), {
      bias: this.weights.get("input.bias"),
      activation: "silu",
      dropout: context.training ? { probability: 0.1, seed: context.random.nextSeed() } : undefined,
    });
    return linear(hidden, weight("output"), { bias: this.weights.get("output.bias") });
  }

  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    if (context.training) {
      const mean = this.runningMean.toArray();
      batch.features.toArray().forEach((x, i) => (mean[i % features] = 0.99 * (mean[i % features] as number) + 0.01 * x));
      this.runningMean.write(mean);
    }
    return ctcLoss(this.logits(batch.features, context), batch.offsets, batch.targets);
  }
}

/** Utterances whose label k is three noisy frames of pattern k. */
export class SmallBatches implements BatchSource {
  /** Positions asked for. */
  readonly asked: string[] = [];

  constructor(private readonly batchesPerEpoch = 4) {}

  count(): number {
    return this.batchesPerEpoch;
  }

  batch(epoch: number, index: number): TrainingBatch {
    this.asked.push(`${epoch}.${index}`);
    const random = new RandomStream(1000 * epoch + index);
    const targets = Array.from({ length: 4 }, () =>
      Array.from({ length: 1 + random.integer(5) }, () => 1 + random.integer(vocabulary - 1)),
    );
    const patterns = randomValues(vocabulary * features, 77);
    const values: number[] = [];
    const lengths = targets.map((labels) => {
      for (const label of labels) {
        for (const pattern of [label, label, 0]) {
          for (let f = 0; f < features; f++) values.push(2 * (patterns[pattern * features + f] as number) + 0.2 * random.uniform());
        }
      }
      return labels.length * 3;
    });
    return {
      features: Tensor.from(values, [values.length / features, features]),
      offsets: new SequenceOffsets(lengths),
      targets,
      audioSeconds: values.length / features / 100,
    };
  }
}
