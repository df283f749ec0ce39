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
  private readonly blocks: readonly DecoderBlock[];
  private readonly norm: Norm;

  constructor(
    scope: WeightScope,
    readonly sizes: SequenceDecoderSizes,
    private readonly embeddings: SequenceEmbeddings,
  ) {
    this.blocks = Array.from({ length: sizes.layers }, (_, index) => new DecoderBlock(scope.scope(`layers.${index}`), sizes));
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
    const offsets = new SequenceOffsets(sequences.map(({ length }) => length));
    const positions = sequences.flatMap((tokens) => [...tokens.keys()]);
    const embedded = releaseUnlessRecording(() => embedTokens(this.embeddings, this.sizes.embeddingScale, table, sequences.flat(), positions));
    let x = onDevice(embedded, encoded.hidden.device);
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
