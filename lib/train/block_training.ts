/**
 * Training one block of an encoder or a decoder alone, to put out what the same block of a float model does: short gradients, a target in
 * every value of every frame, and a tenth of the work of a step through ten blocks (BRECQ, Li et al., ICLR 2021, arXiv 2102.05426, for rounded
 * weights; EBFT, Guo et al. 2024, arXiv 2402.12419, for pruned ones).
 */
import type { BatchSource } from "../data/batch_source.js";
import { shuffled } from "../data/batching.js";
import { UsmLiteError } from "../errors.js";
import { relativeMeanSquare } from "../ops/mean_square.js";
import { RandomStream } from "../ops/random_stream.js";
import { keep, tidy } from "../tensor/scope.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type {
  BatchLoss,
  BlockStack,
  HiddenStates,
  TrainableModel,
  TrainingBatch,
  TrainingContext,
  WeightTransform,
} from "./trainable_model.js";

/**
 * Block `index` of a stack of a network as a model of its own, whose loss is `|output - wanted|² / |wanted|²`. It has no buffers: running statistics
 * stay as they are.
 *
 * @example
 * const [encoder] = network.blockStacks();
 * const model = new BlockModel(network, encoder, 0);
 * frames.want(0);
 * await new Trainer(model, frames, { folder, totalSteps: 500, schedule, modifiers: [quantization] }).run();
 * frames.pass(0, (name, weight) => quantization.transformWeight(name, weight, "evaluation"));
 */
export class BlockModel implements TrainableModel {
  private readonly own: (names: Iterable<string>) => string[];

  constructor(
    private readonly network: TrainableModel,
    private readonly blocks: BlockStack,
    private readonly index: number,
  ) {
    const prefix = blocks.prefixes[index] as string;
    this.own = (names) => [...names].filter((name) => name.startsWith(prefix));
  }

  parameters(): ReadonlyMap<string, Tensor> {
    const all = this.network.parameters();
    return new Map(this.own(all.keys()).map((name) => [name, all.get(name) as Tensor]));
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return new Map<string, Tensor>();
  }

  linearWeights(): readonly string[] {
    return this.own(this.network.linearWeights());
  }

  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    const output = this.blocks.forward(this.index, batch, { ...context, keepStatistics: true });
    return { loss: relativeMeanSquare(output, batch.wanted as Tensor) };
  }

  weightsChanged(): void {
    this.network.weightsChanged?.();
  }
}

interface HiddenBatch {
  readonly offsets: SequenceOffsets;
  readonly audioSeconds: number;
  /** (hidden frames, hidden) that the block is given in the network that is trained. */
  input: Tensor;
  /** In the float network: what the block is given, then what it puts out. */
  wanted: Tensor;
  /** Of decoders: the frames that all blocks look at in the network that is trained. */
  readonly memory: HiddenStates | undefined;
  /** The same frames in the float network. */
  readonly wantedMemory: HiddenStates | undefined;
}

const tensorsOf = ({ offsets, input, wanted, memory, wantedMemory }: HiddenBatch): Tensor[] => [
  offsets.tensor,
  input,
  wanted,
  ...[memory, wantedMemory].flatMap((states) => (states ? [states.hidden, states.offsets.tensor] : [])),
];

const inference = { training: false, random: new RandomStream(0), step: 0 } as const;

/**
 * The hidden frames between two blocks of a network and of its float teacher, on the same speech: what {@link BlockModel} is trained on. Both
 * lie in memory, 4 bytes a value; of a decoder the tokens' states, and the frames of the encoder that it looks at.
 *
 * @example
 * using frames = new HiddenFrames(encoder, teacher.blockStacks()[0], speech, (name, weight) => weight, 1);
 */
export class HiddenFrames implements BatchSource, Disposable {
  private readonly batches: HiddenBatch[] = [];

  /**
   * @param speech its first epoch: each batch becomes one of hidden frames
   * @param transformWeight as the network multiplies by its weights before the first block
   * @param seed orders the batches of an epoch
   * @throws UsmLiteError INVALID_ARGUMENT when all of the speech is too short, or its transcripts too long, to have hidden states
   */
  constructor(
    private readonly blocks: BlockStack,
    private readonly teacher: BlockStack,
    speech: BatchSource,
    transformWeight: WeightTransform,
    private readonly seed: number,
  ) {
    for (let index = 0; index < speech.count(0); index++) {
      tidy(() => {
        const batch = speech.batch(0, index);
        const { hidden, offsets, memory } = blocks.before(batch, { ...inference, transformWeight });
        if (offsets.frames === 0) return;
        const wanted = teacher.before(batch, inference);
        const kept = {
          offsets,
          audioSeconds: batch.audioSeconds,
          input: hidden,
          wanted: wanted.hidden,
          memory,
          wantedMemory: wanted.memory,
        };
        tensorsOf(kept).forEach(keep);
        this.batches.push(kept);
      });
    }
    if (this.batches.length > 0) return;
    throw new UsmLiteError("INVALID_ARGUMENT", "no utterance is long enough, with a transcript that is short enough, to train blocks on");
  }

  /** To be called before block `index` is trained: computes what it is to put out. */
  want(index: number): void {
    for (const batch of this.batches) {
      batch.wanted = this.advance(this.teacher, index, this.trainingBatch(batch, batch.wanted, batch.wantedMemory), {});
    }
  }

  /** To be called after block `index` was trained: what it puts out now is what the next one is given. */
  pass(index: number, transformWeight: WeightTransform): void {
    for (const batch of this.batches)
      batch.input = this.advance(this.blocks, index, this.trainingBatch(batch, batch.input, batch.memory), { transformWeight });
  }

  /** What the block makes of the features of `batch`, which are released. */
  private advance(blocks: BlockStack, index: number, batch: TrainingBatch, context: Pick<TrainingContext, "transformWeight">): Tensor {
    const output = keep(tidy(() => blocks.forward(index, batch, { ...inference, ...context })));
    batch.features.dispose();
    return output;
  }

  count(): number {
    return this.batches.length;
  }

  batch(epoch: number, index: number): TrainingBatch {
    const order = shuffled([...this.batches.keys()], RandomStream.derived(this.seed, epoch));
    const batch = this.batches[order[index] as number] as HiddenBatch;
    return this.trainingBatch(batch, batch.input, batch.memory);
  }

  private trainingBatch({ offsets, audioSeconds, wanted }: HiddenBatch, features: Tensor, memory: HiddenStates | undefined): TrainingBatch {
    return { features, offsets, targets: [], audioSeconds, wanted, plain: true, ...(memory ? { memory } : {}) };
  }

  dispose(): void {
    for (const batch of this.batches) for (const tensor of tensorsOf(batch)) tensor.dispose();
    this.batches.length = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
