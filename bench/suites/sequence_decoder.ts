/**
 * Tokens of a Transformer decoder with the sizes of Cohere's 2B model (8 layers of 1024), one after another, on the GPU and on the CPU: a
 * part of `decode-cuda`.
 */
import { onDevice } from "../../lib/device/placement.js";
import { Linear } from "../../lib/nn/linear.js";
import { SequenceDecoder } from "../../lib/nn/sequence_decoder.js";
import { TokenEmbedding } from "../../lib/nn/token_embedding.js";
import { Norm } from "../../lib/nn/transformer_block.js";
import { WeightScope } from "../../lib/nn/weight_source.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { randomWeights } from "../random_network.js";

const names = { output: "o", selfNorm: "n1", crossNorm: "n2", feedForwardNorm: "n3", inner: "fc1", outer: "fc2", norm: "n" };

/**
 * A function that writes tokens about `frames` frames with int4+2:4 weights, each time from the beginning.
 * @param tiny for the emulator
 */
export function sequenceWriter(
  device: "cpu" | "cuda",
  { frames, tokens, tiny }: { frames: number; tokens: number; tiny: boolean },
): () => void {
  const [hidden, layers, vocabulary] = tiny ? [64, 1, 64] : [1024, 8, 16384];
  const scope = new WeightScope(randomWeights("int4+2:4", device, /\.weight$/));
  const sizes = {
    hidden,
    heads: tiny ? 2 : 8,
    intermediate: 4 * hidden,
    layers,
    activation: "relu",
    layerNormEpsilon: 1e-5,
    keyBias: true,
    names,
  } as const;
  const table = randomWeights("float32", "cpu", /^$/);
  const embedding = new TokenEmbedding(new WeightScope(table), "embed", [vocabulary, hidden]);
  const positions = table.tensor("positions", [tokens, hidden], "small");
  const decoder = new SequenceDecoder(scope, sizes, { tokens: embedding, positions, norm: new Norm(scope, "embedding", hidden, 1e-5) });
  const head = new Linear(scope, "head", [vocabulary, hidden], { bias: true });
  const offsets = new SequenceOffsets([frames]);
  const encoded = onDevice(table.tensor("encoded", [frames, hidden], "glorot"), device);
  return () => {
    using memory = decoder.remember(encoded, offsets);
    using session = decoder.session(memory);
    let past: readonly number[] = [];
    let token = 0;
    for (let written = 0; written < tokens; written++) {
      past = tidy(() => {
        const { hidden: last, rows } = session.advance([{ past, tokens: [token], item: 0 }]);
        const scores = head.forward(last, {}).toArray();
        token = scores.indexOf(scores.reduce((most, score) => Math.max(most, score), -Infinity));
        return rows[0] as number[];
      });
    }
  };
}
