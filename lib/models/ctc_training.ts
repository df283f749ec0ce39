/** The forward pass of a training (or validation) step. */
import type { ForwardContext, InspectLayer } from "../nn/forward_context.js";
import { ctcLoss, type CtcLossOptions } from "../ops/ctc_loss.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { BatchLoss, TrainingBatch, TrainingContext } from "../train/trainable_model.js";

/** A network whose forward pass scores tokens by frame, differentiably. */
interface CtcForward {
  forward(
    features: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext,
    inspectLayer?: InspectLayer,
  ): { readonly logits: Tensor; readonly offsets: SequenceOffsets };
}

/** The loss of a batch, with what the forward pass gave. */
export function ctcTrainingLoss(network: CtcForward, batch: TrainingBatch, context: TrainingContext, options: CtcLossOptions): BatchLoss {
  const hidden: (Tensor | undefined)[] = [];
  const inspect = context.keepHidden ? (x: Tensor, block: number) => void (hidden[block] = x) : undefined;
  const { logits, offsets } = network.forward(batch.features, batch.offsets, forwardContextOf(batch, context), inspect);
  return { ...ctcLoss(logits, offsets, batch.targets, options), outputs: { logits, offsets, ...(inspect ? { hidden } : {}) } };
}

/** What a training step's context means for layers. */
export function forwardContextOf(batch: TrainingBatch, context: TrainingContext): ForwardContext {
  return {
    ...(context.training
      ? { random: context.random, withoutDropout: batch.plain ?? false, keepStatistics: context.keepStatistics ?? false }
      : {}),
    ...(context.transformWeight ? { transformWeight: context.transformWeight } : {}),
    ...(context.packedWeight ? { packedWeight: context.packedWeight } : {}),
    ...(context.observeInput ? { observeInput: context.observeInput } : {}),
  };
}
