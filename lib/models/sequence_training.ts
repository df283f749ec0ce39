/** The forward pass of a training (or validation) step of a sequence-to-sequence model: the decoder is given what it is to write. */
import { UsmLiteError } from "../errors.js";
import { activeAdapters } from "../nn/adapter_scope.js";
import type { ForwardContext } from "../nn/forward_context.js";
import { crossEntropy, ignoredLabel } from "../ops/cross_entropy.js";
import { withoutRecording } from "../ops/tape.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { BatchLoss, TrainingBatch, TrainingContext } from "../train/trainable_model.js";
import { forwardContextOf } from "./ctc_training.js";
import type { SequenceGeneration } from "./sequence_generation.js";
import type { Encoded } from "./speech_network.js";

type Inspector = (hidden: Tensor, layer: number) => void;

/** A network whose forward pass is differentiable. */
interface SequenceForward {
  parameters(): ReadonlyMap<string, Tensor>;
  readonly generation: SequenceGeneration;
  encode(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: Inspector): Encoded;
  /** Scores (tokens, vocabulary) of what follows each token of each sequence. */
  decode(
    encoded: Encoded,
    sequences: readonly (readonly number[])[],
    context: ForwardContext,
    inspectLayer?: Inspector,
  ): { readonly logits: Tensor; readonly offsets: SequenceOffsets };
}

/**
 * Mean cross-entropy of the tokens of a batch, as transformers computes it. `targets` are whole sequences, from the token that begins
 * everything to the one that ends them: every token but the last is given, every one but the first is to be foreseen. Prompts that a model
 * is always given whole are not. Sequences longer than the decoder are left out, and counted.
 * @throws UsmLiteError INVALID_ARGUMENT when a sequence has fewer than two tokens
 */
export function sequenceTrainingLoss(network: SequenceForward, batch: TrainingBatch, context: TrainingContext): BatchLoss {
  const short = batch.targets.find((tokens) => tokens.length < 2);
  if (short)
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `a sequence has ${short.length} tokens; it needs the one that begins it and the one that ends it`,
    );
  const { promptPieces } = network.generation;
  const given = tokensGiven(network.generation, batch);
  const silent = promptPieces ? promptPieces("").length - 1 : 0;
  const labels = batch.targets.flatMap((tokens, item) =>
    (given[item] as readonly number[]).map((_, index) => (index < silent ? ignoredLabel : (tokens[index + 1] as number))),
  );
  const hidden: Tensor[] = [];
  const inspect = context.keepHidden ? (x: Tensor): void => void hidden.push(x) : undefined;
  const forward = forwardContextOf(batch, context);
  const encode = (): Encoded => network.encode(batch.features, batch.offsets, forward, inspect);
  const encoded = encoderLearns(network, forward) ? encode() : withoutRecording(encode);
  const { logits, offsets } = network.decode(encoded, given, forward, inspect);
  const loss = crossEntropy(logits, labels, { labelSmoothing: batch.labelSmoothing ?? 0 });
  const infeasible = given.filter(({ length }) => length === 0).length;
  return { loss, infeasible, outputs: { logits, offsets, ...(inspect ? { hidden } : {}) } };
}

/** What the decoder is given of each sequence: all but the last token; nothing of sequences that are longer than it. */
export const tokensGiven = (
  { positions }: Pick<SequenceGeneration, "positions">,
  { targets }: Pick<TrainingBatch, "targets">,
): number[][] => targets.map((tokens) => (tokens.length > positions + 1 ? [] : tokens.slice(0, -1)));

/** Whether a gradient of the encoder is wanted: where none is, as with adapters of the decoder alone, none of its activations is kept. */
function encoderLearns(network: SequenceForward, { transformWeight, packedWeight }: ForwardContext): boolean {
  const scope = activeAdapters();
  const added =
    scope?.kind === "all"
      ? scope.adapters.flatMap(({ factors }) => [...factors].map(([name, { down }]): [string, Tensor] => [name, down]))
      : [];
  const learns = [...network.parameters(), ...added].some(([name, tensor]) => name.startsWith("model.encoder.") && tensor.requiresGrad);
  return learns || transformWeight !== undefined || packedWeight !== undefined;
}
