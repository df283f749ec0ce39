/** A Transformer decoder (Vaswani et al. 2017), over whole sequences, or token by token in a {@link DecoderSession}. */
import { onDevice } from "../device/placement.js";
import { activeTape, releaseUnlessRecording } from "../ops/tape.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { DecoderBlock, type SequenceDecoderNames, type SequenceDecoderSizes } from "./decoder_block.js";
import { DecoderSession, type DecoderMemory } from "./decoder_session.js";
import type { ForwardContext, InspectLayer } from "./forward_context.js";
import type { Linear } from "./linear.js";
import { embedTokens, type SequenceEmbeddings } from "./sequence_embeddings.js";
import type { NormReaders } from "./norm_readers.js";
import { Norm } from "./transformer_block.js";
import type { WeightScope } from "./weight_source.js";

export const whisperDecoderNames: SequenceDecoderNames = {
  output: "out_proj",
  selfNorm: "self_attn_layer_norm",
  crossNorm: "encoder_attn_layer_norm",
  feedForwardNorm: "final_layer_norm",
  inner: "fc1",
  outer: "fc2",
  norm: "layer_norm",
};

export class SequenceDecoder {
  /** Checkpoint names: "model.decoder.layers.0". */
  readonly blockNames: readonly string[];
  private readonly blocks: readonly DecoderBlock[];
  private readonly norm: Norm;

  constructor(
    scope: WeightScope,
    readonly sizes: SequenceDecoderSizes,
    private readonly embeddings: SequenceEmbeddings,
  ) {
    const layers = Array.from({ length: sizes.layers }, (_, index) => `layers.${index}`);
    this.blocks = layers.map((name) => new DecoderBlock(scope.scope(name), sizes));
    this.blockNames = layers.map((name) => scope.nameOf(name));
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
      device: encoded.device,
      [Symbol.dispose]: () => layers.forEach(({ keys, values }) => [keys, values].forEach((tensor) => tensor.dispose())),
    };
  }

  /**
   * What the decoder makes of whole sequences, each token looking at those before it: teacher forcing (Williams, Zipser 1989).
   * @param sequences tokens about each item of `encoded`; at most as many as there are positions
   * @param table what {@link TokenEmbedding.table} gave
   * @returns `hidden` (tokens, hidden), and where each sequence lies in it
   */
  forward(
    sequences: readonly (readonly number[])[],
    encoded: { readonly hidden: Tensor; readonly offsets: SequenceOffsets },
    table: Tensor,
    context: ForwardContext,
    inspectLayer?: InspectLayer,
  ): { hidden: Tensor; offsets: SequenceOffsets } {
    const { hidden: embedded, offsets } = this.embed(sequences, table, encoded.hidden.device);
    let x = embedded;
    this.blockNames.forEach((_, layer) => {
      const input = x;
      x = this.runBlock(layer, input, offsets, encoded, context);
      inspectLayer?.(x, layer);
      if (!activeTape() && !inspectLayer) input.dispose();
    });
    return { hidden: this.norm.forward(x), offsets };
  }

  /** What the first block is given: (tokens, hidden), and where each sequence lies in them. */
  embed(sequences: readonly (readonly number[])[], table: Tensor, device: Tensor["device"]): { hidden: Tensor; offsets: SequenceOffsets } {
    const offsets = new SequenceOffsets(sequences.map(({ length }) => length));
    const positions = sequences.flatMap((tokens) => [...tokens.keys()]);
    const embedded = releaseUnlessRecording(() => embedTokens(this.embeddings, table, sequences.flat(), positions));
    return { hidden: onDevice(embedded, device), offsets };
  }

  /**
   * What block `index` makes of (tokens, hidden).
   * @param encoded what the encoder makes of each item, in the width of the decoder
   */
  runBlock(
    index: number,
    hidden: Tensor,
    offsets: SequenceOffsets,
    encoded: { readonly hidden: Tensor; readonly offsets: SequenceOffsets },
    context: ForwardContext,
  ): Tensor {
    return releaseUnlessRecording(() => (this.blocks[index] as DecoderBlock).forward(hidden, offsets, encoded, context));
  }

  /** A decoder's state over one memory. */
  session(memory: DecoderMemory): DecoderSession {
    return new DecoderSession(this.blocks, this.norm, this.embeddings, this.sizes, memory);
  }

  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap((block) => block.normReaders);
  }
}
