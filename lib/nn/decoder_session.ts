/** A Transformer decoder at work: it keeps the keys and values of tokens that it has seen, so that each is computed once. */
import { deviceExtendCache } from "../device/cached_attention.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { onDevice, sequencesOnGpu } from "../device/placement.js";
import { RecordedSteps, type KeyRows, type TokenStep } from "../device/recorded_steps.js";
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
  private recordedSteps: RecordedSteps | undefined;

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
      const own = { offsets: new SequenceOffsets(rows.map(({ length }) => length)), rows: Tensor.from(Int32Array.from(rows.flat())) };
      const lengths = steps.map(({ item }) => this.memory.lengths[item] as number);
      const cross = { offsets: new SequenceOffsets(lengths), rows: Tensor.from(this.memoryRows(steps, lengths)) };
      const positions = steps.flatMap(({ past, tokens }) => tokens.map((_, index) => past.length + index));
      const x = embedTokens(
        this.embeddings,
        this.embeddings.tokens.table({}),
        steps.flatMap((step) => step.tokens),
        positions,
      );
      const isToken = steps.every(({ tokens }) => tokens.length === 1);
      if (this.memory.device === "cuda" && isToken && !observe) return this.recorded().run({ x, own, cross });
      const queries = new SequenceOffsets(steps.map(({ tokens }) => tokens.length));
      return this.forward({ x: onDevice(x, this.memory.device), queries, own, cross }, observe);
    });
    this.used = next;
    return { hidden, rows };
  }

  /** Where the frames of an item lie among those of the memory. */
  memoryOf(item: number): { begin: number; length: number } {
    return { begin: this.memoryBegins[item] as number, length: this.memory.lengths[item] as number };
  }

  /** Forgets all sequences: their rows are used again. */
  clear(): void {
    this.used = 0;
  }

  [Symbol.dispose](): void {
    this.recordedSteps?.dispose();
    for (const { keys, values } of this.caches) [keys, values].forEach((tensor) => tensor.dispose());
  }

  /** (tokens, hidden) of all new tokens, whose keys and values go into the caches. */
  private forward({ x, queries, own, cross }: TokenStep & { readonly queries: SequenceOffsets }, observe?: CrossAttentionObserver): Tensor {
    if (x instanceof DeviceTensor) {
      // Before the scopes of blocks, so that they are copied there once.
      sequencesOnGpu(queries);
      for (const { offsets, rows } of [own, cross]) sequencesOnGpu(offsets, rows);
    }
    const last = this.blocks.reduce(
      (input, block, layer) => tidy(() => this.throughBlock(block, layer, { x: input, queries, own, cross }, observe)),
      x,
    );
    return this.norm.forward(last);
  }

  private throughBlock(
    block: DecoderBlock,
    layer: number,
    { x, queries, own, cross }: TokenStep & { readonly queries: SequenceOffsets },
    observe: CrossAttentionObserver | undefined,
  ): Tensor {
    const { selfAttention, crossAttention } = block;
    const cache = { ...(this.caches[layer] as LayerCache), ...own };
    const [selfQueries, keys, values] = selfAttention.inputs.forward(selfAttention.normalize(x), {});
    this.extend(cache, queries, keys, values);
    const attended = selfAttention.attend(selfQueries, x, queries, cache);
    const memory = { ...(this.memory.layers[layer] as LayerCache), ...cross };
    const crossQueries = crossAttention.query.forward(crossAttention.normalize(attended), {});
    observe?.(layer, crossQueries, memory.keys);
    return block.feedForward(crossAttention.attend(crossQueries, attended, queries, memory));
  }

  /** Puts new tokens into a cache, at its end. */
  private extend(cache: LayerCache & KeyRows, queries: SequenceOffsets, keys: Tensor, values: Tensor): void {
    if (keys instanceof DeviceTensor) {
      const placed = {
        keys: onGpu(cache.keys, "keys"),
        values: onGpu(cache.values, "values"),
        sequences: sequencesOnGpu(cache.offsets, cache.rows),
      };
      deviceExtendCache(placed, sequencesOnGpu(queries), keys, onGpu(values, "values"));
    } else {
      overwriteRows(cache.keys, this.used, keys);
      overwriteRows(cache.values, this.used, values);
    }
  }

  private recorded(): RecordedSteps {
    return (this.recordedSteps ??= new RecordedSteps({
      forward: (step) => this.forward(step),
      own: { rows: this.capacity, longest: this.capacity },
      cross: { rows: this.memory.lengths.reduce((sum, length) => sum + length, 0), longest: Math.max(...this.memory.lengths) },
    }));
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
    this.recordedSteps?.dispose(); // of the caches that are about to go
    this.recordedSteps = undefined;
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
