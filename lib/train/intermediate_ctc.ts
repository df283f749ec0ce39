/**
 * A second CTC loss on an inner block, over phones or over the same tokens: deep stacks begin to learn in a fraction of
 * the steps (hierarchical multitask CTC, Fernandez et al. 2007; intermediate CTC, Lee and Watanabe 2021). Its head
 * exists in training only.
 */
import { copyBeside } from "../device/device_parameter.js";
import { UsmLiteError } from "../errors.js";
import { forwardContextOf } from "../models/ctc_training.js";
import type { LasrForCtc } from "../models/lasr/lasr_for_ctc.js";
import { ctcLoss } from "../ops/ctc_loss.js";
import { scaledSum } from "../ops/elementwise.js";
import { linear } from "../ops/linear.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { BatchLoss, TrainableModel, TrainingBatch, TrainingContext } from "./trainable_model.js";

interface IntermediateCtcOptions {
  /** Blocks before the second head; at least 1, fewer than the model has. */
  readonly layer: number;
  /** Its share of the loss, between 0 and 1. */
  readonly weight: number;
  /** Symbols of `TrainingBatch.innerTargets`, the blank (0) included. */
  readonly vocabulary: number;
}

/** Parameters of the second head carry this prefix; they are saved with a run but not with the model. */
const intermediateHeadPrefix = "intermediate_head.";

export class IntermediateCtc implements TrainableModel {
  private readonly head: { weight: Tensor; bias: Tensor };

  constructor(
    private readonly network: LasrForCtc,
    private readonly options: IntermediateCtcOptions,
  ) {
    const { layer, weight, vocabulary } = options;
    const blocks = network.encoder.blocks.length;
    if (!Number.isInteger(layer) || layer < 1 || layer >= blocks) {
      throw new UsmLiteError("INVALID_ARGUMENT", `intermediate layer is ${layer}; it must be between 1 and ${blocks - 1}`);
    }
    if (!(weight > 0 && weight < 1)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `the weight of the intermediate loss is ${weight}; it must be between 0 and 1`);
    }
    const [neighbour] = network.parameters().values();
    const zeros = (shape: readonly number[]): Tensor => tidy(() => keep(copyBeside(neighbour as Tensor, Tensor.zeros(shape))));
    this.head = { weight: zeros([vocabulary, network.config.encoder_config.hidden_size]), bias: zeros([vocabulary]) };
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return new Map([
      ...this.network.parameters(),
      [`${intermediateHeadPrefix}weight`, this.head.weight],
      [`${intermediateHeadPrefix}bias`, this.head.bias],
    ]);
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.network.buffers();
  }

  linearWeights(): readonly string[] {
    return this.network.linearWeights();
  }

  weightsChanged(): void {
    this.network.weightsChanged();
  }

  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    let inner: Tensor | undefined;
    const { logits, offsets } = this.network.forward(batch.features, batch.offsets, forwardContextOf(batch, context), (x, block) => {
      if (block + 1 === this.options.layer) inner = x;
    });
    const outer = ctcLoss(logits, offsets, batch.targets, this.network.ctcOptions);
    if (!inner) return outer; // the block was dropped in this step
    const innerLogits = linear(inner, this.head.weight, { bias: this.head.bias });
    const second = ctcLoss(innerLogits, offsets, batch.innerTargets ?? batch.targets, this.network.ctcOptions);
    const { weight } = this.options;
    return { ...outer, loss: scaledSum(outer.loss, 1 - weight, second.loss, weight) };
  }
}
