/** A Transformer decoder (Vaswani et al. 2017) that keeps the keys and values of tokens it has seen, or, in training, sees all at once. */
import { cachedAttention, type AttentionCache } from "../ops/cached_attention.js";
import { scaledSum } from "../ops/elementwise.js";
import { gatherRows } from "../ops/row_copies.js";
import { activeTape, releaseUnlessRecording } from "../ops/tape.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { activatedLinear, type ActivationName } from "./activated_linear.js";
import type { ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import type { TokenEmbedding } from "./token_embedding.js";
import { Norm } from "./transformer_block.js";
import type { WeightScope } from "./weight_source.js";

export interface SequenceDecoderSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly activation: ActivationName;
  readonly layerNormEpsilon: number;
  readonly keyBias: boolean;
  /** Factor of the token embeddings. */
  readonly embeddingScale: number;
  /** Names of the weights in the checkpoint. */
  readonly names: SequenceDecoderNames;
  /** Whether query, value and output layers have a bias; default true. */
  readonly bias?: boolean;
}

export interface SequenceDecoderNames {
  /** Of both attentions. */
  readonly output: string;
  readonly selfNorm: string;
  readonly crossNorm: string;
  readonly feedForwardNorm: string;
  readonly inner: string;
  readonly outer: string;
  /** After the last layer. */
  readonly norm: string;
}

export const whisperDecoderNames: SequenceDecoderNames = {
  output: "out_proj",
  selfNorm: "self_attn_layer_norm",
  crossNorm: "encoder_attn_layer_norm",
  feedForwardNorm: "final_layer_norm",
  inner: "fc1",
  outer: "fc2",
  norm: "layer_norm",
};

/** The embeddings of tokens and of positions, which lie under names of the family. */
export interface SequenceEmbeddings {
  readonly tokens: TokenEmbedding;
  /** (longest sequence, hidden) */
  readonly positions: Tensor;
  /** Of their sum, where the family has one. */
  readonly norm?: Norm;
}

/** Keys and values that the layers make of an encoder's output: computed once for all tokens. */
export interface DecoderMemory extends Disposable {
  readonly layers: readonly { readonly keys: Tensor; readonly values: Tensor }[];
  /** Frames of each item. */
  readonly lengths: readonly number[];
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

class Attention {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  private readonly norm: Norm;

  constructor(scope: WeightScope, name: string, norm: string, private readonly sizes: SequenceDecoderSizes) {
    const square = [sizes.hidden, sizes.hidden];
    const inner = scope.scope(name);
    const bias = { bias: sizes.bias ?? true };
    this.query = new Linear(inner, "q_proj", square, bias);
    this.key = new Linear(inner, "k_proj", square, { bias: sizes.keyBias });
    this.value = new Linear(inner, "v_proj", square, bias);
    this.output = new Linear(inner, sizes.names.output, square, bias);
    this.norm = new Norm(scope, norm, sizes.hidden, sizes.layerNormEpsilon);
  }

  normalize(x: Tensor): Tensor {
    return this.norm.forward(x);
  }

  /** What is attended to: keys and values of rows (frames, hidden). */
  memory(rows: Tensor, offsets: SequenceOffsets, context: ForwardContext): AttentionCache {
    return { keys: this.key.forward(rows, context), values: this.value.forward(rows, context), offsets };
  }

  attend(normalized: Tensor, residual: Tensor, offsets: SequenceOffsets, cache: AttentionCache, causal: boolean, context: ForwardContext = {}): Tensor {
    const attended = cachedAttention(this.query.forward(normalized, context), offsets, cache, { heads: this.sizes.heads, causal });
    return this.output.forward(attended, context, { residual });
  }
}

class Block {
  readonly selfAttention: Attention;
  readonly crossAttention: Attention;
  private readonly inner: Linear;
  private readonly outer: Linear;
  private readonly norm: Norm;

  constructor(scope: WeightScope, private readonly sizes: SequenceDecoderSizes) {
    const { names } = sizes;
    this.selfAttention = new Attention(scope, "self_attn", names.selfNorm, sizes);
    this.crossAttention = new Attention(scope, "encoder_attn", names.crossNorm, sizes);
    this.inner = new Linear(scope, names.inner, [sizes.intermediate, sizes.hidden], { bias: true });
    this.outer = new Linear(scope, names.outer, [sizes.hidden, sizes.intermediate], { bias: true });
    this.norm = new Norm(scope, names.feedForwardNorm, sizes.hidden, sizes.layerNormEpsilon);
  }

  feedForward(x: Tensor, context: ForwardContext = {}): Tensor {
    const inner = activatedLinear(this.inner, this.norm.forward(x), this.sizes.activation, context);
    return this.outer.forward(inner, context, { residual: x });
  }

  /** All tokens of all sequences at once. */
  forward(x: Tensor, offsets: SequenceOffsets, encoded: { readonly hidden: Tensor; readonly offsets: SequenceOffsets }, context: ForwardContext): Tensor {
    const { selfAttention: own, crossAttention: cross } = this;
    const normalized = own.normalize(x);
    const attended = own.attend(normalized, x, offsets, own.memory(normalized, offsets, context), true, context);
    const memory = cross.memory(encoded.hidden, encoded.offsets, context);
    return this.feedForward(cross.attend(cross.normalize(attended), attended, offsets, memory, false, context), context);
  }

  get linears(): Linear[] {
    const { selfAttention: own, crossAttention: cross } = this;
    return [own, cross].flatMap(({ query, key, value, output }) => [query, key, value, output]).concat(this.inner, this.outer);
  }
}

export class SequenceDecoder {
  private readonly blocks: readonly Block[];
  private readonly norm: Norm;

  constructor(
    scope: WeightScope,
    readonly sizes: SequenceDecoderSizes,
    private readonly embeddings: SequenceEmbeddings,
  ) {
    this.blocks = Array.from({ length: sizes.layers }, (_, index) => new Block(scope.scope(`layers.${index}`), sizes));
    this.norm = new Norm(scope, sizes.names.norm, sizes.hidden, sizes.layerNormEpsilon);
  }

  /** @param encoded (frames, hidden); @param offsets where each item lies in it */
  remember(encoded: Tensor, offsets: SequenceOffsets): DecoderMemory {
    const layers = this.blocks.map(({ crossAttention: { key, value } }) => ({
      keys: keep(key.forward(encoded, {})),
      values: keep(value.forward(encoded, {})),
    }));
    return {
      layers,
      lengths: offsets.lengths,
      [Symbol.dispose]: () => layers.forEach(({ keys, values }) => [keys, values].forEach((tensor) => tensor.dispose())),
    };
  }

  /**
   * What the decoder makes of whole sequences, each token looking at those before it: teacher forcing (Williams, Zipser 1989).
   * @param sequences tokens about each item of `encoded`; at most as many as there are positions
   * @param table what {@link TokenEmbedding.table} gave
   * @param inspectLayer given (tokens, hidden) after each block
   * @returns `hidden` (tokens, hidden), and where each sequence lies in it
   */
  forward(
    sequences: readonly (readonly number[])[],
    encoded: { readonly hidden: Tensor; readonly offsets: SequenceOffsets },
    table: Tensor,
    context: ForwardContext,
    inspectLayer?: (hidden: Tensor, layer: number) => void,
  ): { hidden: Tensor; offsets: SequenceOffsets } {
    const offsets = new SequenceOffsets(sequences.map(({ length }) => length));
    const positions = sequences.flatMap((tokens) => [...tokens.keys()]);
    let x = releaseUnlessRecording(() => placed(this.embeddings, this.sizes, table, sequences.flat(), positions));
    this.blocks.forEach((block, layer) => {
      const input = x;
      x = releaseUnlessRecording(() => block.forward(input, offsets, encoded, context));
      inspectLayer?.(x, layer);
      if (!activeTape() && !inspectLayer) input.dispose();
    });
    return { hidden: this.norm.forward(x), offsets };
  }

  /** A decoder's state over one memory. */
  session(memory: DecoderMemory): DecoderSession {
    return new DecoderSession(this.blocks, this.norm, this.embeddings, this.sizes, memory);
  }

  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }
}

/** (tokens, hidden): what stands for tokens at their positions. */
function placed({ tokens, positions, norm }: SequenceEmbeddings, { embeddingScale }: SequenceDecoderSizes, table: Tensor, ids: readonly number[], at: readonly number[]): Tensor {
  const sum = scaledSum(tokens.lookUp(ids, table), embeddingScale, gatherRows(positions, at), 1);
  return norm?.forward(sum) ?? sum;
}

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
    private readonly blocks: readonly Block[],
    private readonly norm: Norm,
    private readonly embeddings: SequenceEmbeddings,
    private readonly sizes: SequenceDecoderSizes,
    private readonly memory: DecoderMemory,
  ) {
    const empty = (): Tensor => keep(Tensor.zeros([this.capacity, sizes.hidden]));
    this.caches = blocks.map(() => ({ keys: empty(), values: empty() }));
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
      let x = placed(this.embeddings, this.sizes, this.embeddings.tokens.table({}), steps.flatMap((step) => step.tokens), positions);
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
    block: Block,
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
    const end = this.used + queries.frames;
    cache.keys.rows(this.used, end).write(selfAttention.key.forward(normalized, {}).toArray());
    cache.values.rows(this.used, end).write(selfAttention.value.forward(normalized, {}).toArray());
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

  private reserve(rows: number): void {
    if (rows <= this.capacity) return;
    const capacity = Math.max(rows, 2 * this.capacity);
    for (const cache of this.caches) {
      for (const part of ["keys", "values"] as const) {
        const larger = keep(Tensor.zeros([capacity, this.sizes.hidden]));
        larger.rows(0, this.used).write(cache[part].rows(0, this.used).toArray());
        cache[part].dispose();
        cache[part] = larger;
      }
    }
    this.capacity = capacity;
  }
}
