/**
 * Tokens of a Transformer decoder with the sizes of Cohere's 2B model (8 layers of 1024): a part of `decode-cuda`, and the suite
 * `tokens-cpu`, which writes about several recordings together and one after another.
 */
import { onDevice } from "../../lib/device/placement.js";
import { Linear } from "../../lib/nn/linear.js";
import { SequenceDecoder } from "../../lib/nn/sequence_decoder.js";
import { TokenEmbedding } from "../../lib/nn/token_embedding.js";
import { Norm } from "../../lib/nn/transformer_block.js";
import { WeightScope } from "../../lib/nn/weight_source.js";
import { writeSequences } from "../../lib/decode/sequence_search.js";
import { threadCount } from "../../lib/native/runtime.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import type { Tensor } from "../../lib/tensor/tensor.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import { randomWeights } from "../random_network.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const names = { output: "o", selfNorm: "n1", crossNorm: "n2", feedForwardNorm: "n3", inner: "fc1", outer: "fc2", norm: "n" };

interface WriterWork {
  /** Of each recording. */
  readonly frames: number;
  /** Written about each. */
  readonly tokens: number;
  readonly recordings: number;
  readonly spec: string;
  /** For the emulator. */
  readonly tiny: boolean;
}

/**
 * Writes tokens greedily, each time from the beginning.
 * @param together how many recordings are written about at once
 */
export function sequenceWriter(device: "cpu" | "cuda", { frames, tokens, recordings, spec, tiny }: WriterWork): (together: number) => void {
  const [hidden, layers, vocabulary] = tiny ? [64, 1, 64] : [1024, 8, 16384];
  const scope = new WeightScope(randomWeights(spec, device, /\.weight$/));
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
  const positions = table.tensor("positions", [tokens + 1, hidden], "small");
  const decoder = new SequenceDecoder(scope, sizes, { tokens: embedding, positions, norm: new Norm(scope, "embedding", hidden, 1e-5) });
  const head = new Linear(scope, "head", [vocabulary, hidden], { bias: true });
  const scorer = { vocabularySize: vocabulary, scores: (last: Tensor) => head.forward(last, {}) };
  const encoded = onDevice(table.tensor("encoded", [frames * recordings, hidden], "glorot"), device);
  return (together) => {
    for (let first = 0; first < recordings; first += together) {
      const items = Array.from({ length: together }, (_, item) => item);
      using memory = decoder.remember(
        encoded.rows(first * frames, (first + together) * frames),
        new SequenceOffsets(items.map(() => frames)),
      );
      using session = decoder.session(memory);
      // No token ends a text: all have their length.
      const requests = items.map((item) => ({ item, prompt: [0], endId: -1, maximumLength: 1 + tokens }));
      writeSequences(scorer, session, requests);
    }
  };
}

export const tokensCpu: BenchmarkSuite = {
  name: "tokens-cpu",
  async run({ record }: BenchmarkContext): Promise<void> {
    const [frames, tokens, recordings] = [250, 24, 8];
    for (const spec of ["float32", "int8", "int4", "int4+2:4"]) {
      const write = sequenceWriter("cpu", { frames, tokens, recordings, spec, tiny: false });
      const contestants = [recordings, 1].map((together): Contestant => ({
        impl: together === 1 ? "one after another" : "together",
        spec,
        run: (repetitions) => timed(() => tidy(() => write(together)), repetitions),
      }));
      const timings = await measureInTurn(contestants, { rounds: 3, millisecondsPerTurn: 30, millisecondsBetween: 1 });
      timings.forEach((timing, index) =>
        record({
          suite: "tokens-cpu",
          case: `${tokens} tokens of a decoder about each of ${recordings} x ${frames} frames`,
          impl: (contestants[index] as Contestant).impl,
          spec,
          device: "cpu",
          threads: threadCount(),
          ...timing,
        }),
      );
    }
  },
};
