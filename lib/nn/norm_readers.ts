/** Which linear layers of a Conformer block multiply the output of which layer norm. */
import { conformerNames } from "./conformer_names.js";

/** A layer norm with all that its output goes to: linear layers and nothing else. */
export interface NormReaders {
  /** Weight, and bias where there is one, by checkpoint name: float32 (hidden). */
  readonly norm: readonly string[];
  /** Weights (out, hidden) or (out, hidden, 1) of the linear layers, by checkpoint name. */
  readonly readers: readonly string[];
}

const { feedForward1, feedForward2, inner, selfAttention, convolution, norms } = conformerNames;

/** Within a block. The norm at its end is absent: the next block adds its output to what its modules make of it. */
const readersInBlock = new Map([
  [norms.feedForward1, [`${feedForward1}.${inner}`]],
  [norms.selfAttention, ["q_proj", "k_proj", "v_proj"].map((name) => `${selfAttention}.${name}`)],
  [norms.convolution, [`${convolution}.pointwise_conv1`]],
  [norms.feedForward2, [`${feedForward2}.${inner}`]],
]);

/**
 * The norms of the Conformer blocks of LASR and Parakeet encoders, in the order of `parameters`; none for other families. Those of
 * wav2vec2-conformer are not listed: its rotary attention turns the output of the norm before layers multiply it.
 * @param parameters all of a model, by checkpoint name
 *
 * @example
 * const [{ norm, readers }] = normReaders(network.parameters().keys());
 * norm; // ["encoder.layers.0.norm_feed_forward1.weight"]
 * readers; // ["encoder.layers.0.feed_forward1.linear1.weight"]
 */
export function normReaders(parameters: Iterable<string>): readonly NormReaders[] {
  const names = new Set(parameters);
  return [...names].flatMap((name) => {
    const [, block, norm] = /^(.*\.layers\.\d+)\.(\w+)\.weight$/.exec(name) ?? [];
    const readers = (norm === undefined ? [] : (readersInBlock.get(norm) ?? [])).map((reader) => `${block}.${reader}.weight`);
    if (readers.length === 0 || !readers.every((reader) => names.has(reader))) return [];
    const bias = `${block}.${norm}.bias`;
    return [{ norm: names.has(bias) ? [name, bias] : [name], readers }];
  });
}
