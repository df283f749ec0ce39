/** Parakeet encoder with a transducer: `ParakeetForRNNT` and `ParakeetForTDT` of transformers, for inference and training. */
import { DeviceTensor } from "../../device/device_tensor.js";
import { maximumDurations, TransducerDecoder } from "../../device/transducer_decoder.js";
import { UsmLiteError } from "../../errors.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { floatsOf, multiply, PredictionNetwork, type Prediction } from "../../nn/prediction_network.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import { transducerLoss } from "../../ops/transducer_loss.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import { tidy } from "../../tensor/scope.js";
import { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, ForwardOutputs, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { encoderStack } from "../block_stacks.js";
import { forwardContextOf } from "../ctc_training.js";
import type { Encoded, TransducerNetwork } from "../speech_network.js";
import type { ParakeetTransducerConfig } from "./parakeet_config.js";
import { ParakeetEncoder } from "./parakeet_encoder.js";

export class ParakeetTransducer implements TransducerNetwork, TrainableModel {
  readonly kind = "transducer";
  readonly encoder: ParakeetEncoder;
  private readonly weights: WeightRegistry;
  private readonly encoderProjector: Linear;
  private readonly prediction: PredictionNetwork;
  private readonly head: Linear;
  private decoder: TransducerDecoder | undefined;
  private encodesOnGpu = false;

  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for */
  constructor(
    readonly config: ParakeetTransducerConfig,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const scope = new WeightScope(this.weights);
    const { vocab_size: vocabulary, decoder_hidden_size: hidden, num_decoder_layers: layers, durations, encoder_config } = config;
    this.encoder = new ParakeetEncoder(scope.scope("encoder"), encoder_config);
    this.encoderProjector = new Linear(scope, "encoder_projector", [hidden, encoder_config.hidden_size], { bias: true });
    this.prediction = new PredictionNetwork(scope.scope("decoder"), { vocabulary, hidden, layers });
    this.head = new Linear(scope, "joint.head", [vocabulary + durations.length, hidden], { bias: true });
  }

  encode(
    features: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): Encoded & { readonly projected: Tensor } {
    const encoded = this.encoder.forward(features, offsets, context, inspectLayer);
    this.encodesOnGpu = encoded.hidden instanceof DeviceTensor;
    return { ...encoded, projected: this.encoderProjector.forward(encoded.hidden, context) };
  }

  /**
   * The loss that NeMo trains these models with: per label of the batch for the plain transducer, mean over utterances of the loss per
   * label with durations. Batch normalization keeps the statistics of the checkpoint.
   * @throws UsmLiteError UNSUPPORTED_MODEL when weights are packed
   */
  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    const { weight: stored, bias, name } = this.head;
    if (!(stored instanceof Tensor))
      throw new UsmLiteError("UNSUPPORTED_MODEL", "packed weights cannot be trained; load the model with float weights");
    const { projected, ...outputs } = this.encodeBatch(batch, context);
    const predictions = this.prediction.forward(batch.targets, this.blankId, forwardContextOf(batch, context));
    if (context.observeInput) this.observeJoint(projected, outputs.offsets, predictions, batch.targets, context.observeInput);
    const weight = context.transformWeight?.(name, stored) ?? stored;
    const { durations } = this.config;
    const { loss, infeasible, lattice, divergence } = transducerLoss(
      projected,
      outputs.offsets,
      predictions,
      batch.targets,
      { weight, bias: bias as Tensor },
      {
        blank: this.blankId,
        durations,
        reduction: durations.length > 0 ? "mean" : "mean-volume",
        ...(context.teacherLattice ? { teacher: context.teacherLattice } : {}),
      },
    );
    return {
      loss,
      infeasible,
      outputs: { ...outputs, ...(context.keepLattice ? { lattice } : {}), ...(divergence ? { divergence } : {}) },
    };
  }

  /** Shows what the joint network's last layer multiplies: one row for each pair of a frame and a place in the transcript. */
  private observeJoint(
    projected: Tensor,
    offsets: SequenceOffsets,
    predictions: Tensor,
    targets: readonly (readonly number[])[],
    observe: (name: string, x: Tensor) => void,
  ): void {
    const hidden = this.config.decoder_hidden_size;
    let place = 0;
    targets.forEach(({ length }, item) => {
      const begin = offsets.begin(item);
      const [frames, places] = [
        projected.rows(begin, begin + (offsets.lengths[item] as number)).toArray(),
        predictions.rows(place, place + length + 1).toArray(),
      ];
      place += length + 1;
      const rows = new Float32Array((frames.length * places.length) / hidden);
      for (let i = 0; i < rows.length; i++) {
        const [column, row] = [i % hidden, Math.floor(i / hidden)];
        const [frame, label] = [Math.floor(row / (length + 1)), row % (length + 1)];
        rows[i] = Math.max(0, (frames[frame * hidden + column] as number) + (places[label * hidden + column] as number));
      }
      tidy(() => observe(this.head.name, Tensor.from(rows, [rows.length / hidden, hidden])));
    });
  }

  /** Where only hidden states are wanted the joint network, which is much of the work, is left out. */
  outputs(batch: TrainingBatch, context: TrainingContext): ForwardOutputs {
    if (context.keepLattice) return this.loss(batch, context).outputs as ForwardOutputs;
    const { projected, ...outputs } = this.encodeBatch(batch, context);
    projected.dispose();
    return outputs;
  }

  private encodeBatch(batch: TrainingBatch, context: TrainingContext): ForwardOutputs & { readonly projected: Tensor } {
    const hidden: Tensor[] = [];
    const inspect = context.keepHidden ? (x: Tensor, block: number) => void (hidden[block] = x) : undefined;
    const { projected, offsets } = this.encode(batch.features, batch.offsets, forwardContextOf(batch, context), inspect);
    return { projected, offsets, ...(inspect ? { hidden } : {}) };
  }

  blockStacks(): readonly BlockStack[] {
    return [encoderStack(this.encoder)];
  }

  normReaders(): readonly NormReaders[] {
    return this.encoder.normReaders;
  }

  weightsChanged(): void {
    this.decoder?.dispose();
    this.decoder = undefined;
    this.encoder.weightsChanged();
  }

  predict(tokens: readonly number[], before: readonly (Prediction | undefined)[]): Prediction[] {
    return this.prediction.predict(tokens, before);
  }

  scores(frames: readonly Float32Array[], predictions: readonly Prediction[]): Float32Array {
    const hidden = this.config.decoder_hidden_size;
    const joint = new Float32Array(frames.length * hidden);
    frames.forEach((frame, row) => {
      const { output } = predictions[row] as Prediction;
      for (let i = 0; i < hidden; i++) joint[row * hidden + i] = Math.max(0, (frame[i] as number) + (output[i] as number));
    });
    const { weight, bias } = this.head;
    return tidy(() => multiply(Tensor.from(joint, [frames.length, hidden]), weight, { bias }).toArray());
  }

  /** Once it has encoded on the GPU. */
  get decoderOnGpu(): TransducerDecoder | undefined {
    const { durations, decoder_hidden_size: hidden } = this.config;
    if (!this.encodesOnGpu || hidden % 8 !== 0 || durations.length > maximumDurations) return undefined;
    this.decoder ??= tidy(() => {
      const head = { weight: floatsOf(this.head.weight), bias: this.head.bias && floatsOf(this.head.bias) };
      return new TransducerDecoder({ ...this.prediction.floatWeights(), head }, this);
    });
    return this.decoder;
  }

  hiddenFrames(featureFrames: number): number {
    return this.encoder.subsampling.outputLength(featureFrames);
  }

  get vocabularySize(): number {
    return this.config.vocab_size;
  }

  get featureSize(): number {
    return this.config.encoder_config.num_mel_bins;
  }

  get blankId(): number {
    return this.config.blank_token_id;
  }

  get durations(): readonly number[] {
    return this.config.durations;
  }

  get maximumSymbolsPerFrame(): number {
    return this.config.max_symbols_per_step;
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return this.weights.parameters;
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.weights.buffers;
  }

  linearWeights(): readonly string[] {
    const encoder = [this.encoder.subsampling.output, ...this.encoder.linears, this.encoderProjector].map((layer) => layer.name);
    return [...encoder, ...this.prediction.weightNames, this.head.name];
  }

  blockWeights(): readonly string[] {
    return this.encoder.linears.map((layer) => layer.name);
  }

  dispose(): void {
    this.decoder?.dispose();
    this.encoder.dispose();
    this.weights.dispose();
  }
}
