/** A Transformer decoder at work: it keeps the keys and values of tokens that it has seen, so that each costs no more than itself. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onDevice, sequencesOnGpu } from "../device/placement.js";
import { overwriteRows } from "../ops/row_copies.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { DecoderBlock, SequenceDecoderSizes } from "./decoder_block.js";
import { embedTokens, type SequenceEmbeddings } from "./sequence_embeddings.js";
import type { Norm } from "./transformer_block.js";

/** Keys and values that the layers make of an encoder's output: computed once for all tokens. */
export interface DecoderMemory extends Disposable {
  readonly layers: readonly { readonly keys: Tensor; readonly values: Tensor }[];
  /** Frames of each item. */
  readonly lengths: readonly number[];
  /** Where keys and values lie: the decoder computes there. */
  readonly device: "cpu" | "cuda";
}

/** Tokens to add to a sequence. */
export interface SequenceStep {
  /** Rows of the cache that hold the tokens so far. */
  readonly past: readonly number[];
  /** At least one. */
  readonly tokens: readonly number[];
  /** Item of the memory that it is about. */
  readonly item: number;
}

/** Sees what the cross-attention of a layer compares: queries (new tokens, hidden) and keys (frames of all items, hidden). */
export type CrossAttentionObserver = (layer: number, queries: Tensor, keys: Tensor) => void;

/** Rows of keys and values of one layer, of all tokens that any sequence has had. */
interface LayerCache {
  keys: Tensor;
  values: Tensor;
}

export class DecoderSession implements Disposable {
  private readonly caches: LayerCache[];
  private capacity = 64;
  private used = 0;
  private readonly memoryBegins: readonly number[];

  constructor(
    private readonly blocks: readonly DecoderBlock[],
    private readonly norm: Norm,
    private readonly embeddings: SequenceEmbeddings,
    private readonly sizes: SequenceDecoderSizes,
    private readonly memory: DecoderMemory,
  ) {
    this.caches = blocks.map(() => ({ keys: this.emptyRows(this.capacity), values: this.emptyRows(this.capacity) }));
    const offsets = new SequenceOffsets(memory.lengths);
    this.memoryBegins = memory.lengths.map((_, item) => offsets.begin(item));
    offsets.tensor.dispose();
  }

  /**
   * Adds tokens to sequences; what one gives does not depend on the others. Several may share their past.
   * @param observe is called for every layer, with tensors that live as long as the call
   * @returns `hidden` (tokens, hidden) of all new tokens in order, and the rows that each sequence now consists of
   */
  advance(steps: readonly SequenceStep[], observe?: CrossAttentionObserver): { hidden: Tensor; rows: number[][] } {
    const added = steps.reduce((sum, { tokens }) => sum + tokens.length, 0);
    this.reserve(this.used + added);
    let next = this.used;
    const rows = steps.map(({ past, tokens }) => [...past, ...tokens.map(() => next++)]);
    const hidden = tidy(() => {
      const queries = new SequenceOffsets(steps.map(({ tokens }) => tokens.length));
      const own = { offsets: new SequenceOffsets(rows.map(({ length }) => length)), rows: Tensor.from(Int32Array.from(rows.flat())) };
      const lengths = steps.map(({ item }) => this.memory.lengths[item] as number);
      const cross = { offsets: new SequenceOffsets(lengths), rows: Tensor.from(this.memoryRows(steps, lengths)) };
      const positions = steps.flatMap(({ past, tokens }) => tokens.map((_, index) => past.length + index));
      if (this.memory.device === "cuda") {
        // Before the scopes of blocks, so that they are copied there once.
        sequencesOnGpu(queries);
        for (const { offsets, rows } of [own, cross]) sequencesOnGpu(offsets, rows);
      }
      const embedded = embedTokens(this.embeddings, this.sizes.embeddingScale, this.embeddings.tokens.table({}), steps.flatMap((step) => step.tokens), positions);
      let x = onDevice(embedded, this.memory.device);
      this.blocks.forEach((block, layer) => {
        x = tidy(() => this.throughBlock(block, layer, x, queries, own, cross, observe));
      });
      return this.norm.forward(x);
    });
    this.used = next;
    return { hidden, rows };
  }

  [Symbol.dispose](): void {
    for (const { keys, values } of this.caches) [keys, values].forEach((tensor) => tensor.dispose());
  }

  private throughBlock(
    block: DecoderBlock,
    layer: number,
    x: Tensor,
    queries: SequenceOffsets,
    own: { offsets: SequenceOffsets; rows: Tensor },
    cross: { offsets: SequenceOffsets; rows: Tensor },
    observe: CrossAttentionObserver | undefined,
  ): Tensor {
    const cache = this.caches[layer] as LayerCache;
    const { selfAttention, crossAttention } = block;
    const normalized = selfAttention.normalize(x);
    overwriteRows(cache.keys, this.used, selfAttention.key.forward(normalized, {}));
    overwriteRows(cache.values, this.used, selfAttention.value.forward(normalized, {}));
    const attended = selfAttention.attend(normalized, x, queries, { ...cache, ...own }, true);
    const memory = { ...(this.memory.layers[layer] as LayerCache), ...cross };
    const looking = crossAttention.normalize(attended);
    observe?.(layer, crossAttention.query.forward(looking, {}), memory.keys);
    return block.feedForward(crossAttention.attend(looking, attended, queries, memory, false));
  }

  /** Rows of the memory that each sequence looks at. */
  private memoryRows(steps: readonly SequenceStep[], lengths: readonly number[]): Int32Array {
    const rows = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
    let at = 0;
    steps.forEach(({ item }, index) => {
      const begin = this.memoryBegins[item] as number;
      for (let frame = 0; frame < (lengths[index] as number); frame++) rows[at++] = begin + frame;
    });
    return rows;
  }

  private emptyRows(rows: number): Tensor {
    const shape = [rows, this.sizes.hidden];
    return keep(this.memory.device === "cuda" ? DeviceTensor.zeros(shape) : Tensor.zeros(shape));
  }

  private reserve(rows: number): void {
    if (rows <= this.capacity) return;
    const capacity = Math.max(rows, 2 * this.capacity);
    for (const cache of this.caches) {
      for (const part of ["keys", "values"] as const) {
        const larger = this.emptyRows(capacity);
        overwriteRows(larger, 0, cache[part].rows(0, this.used));
        cache[part].dispose();
        cache[part] = larger;
      }
    }
    this.capacity = capacity;
  }
}
