/** What stands for tokens at the places that they have in a sequence. */
import { scaledSum } from "../ops/elementwise.js";
import { gatherRows } from "../ops/row_copies.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TokenEmbedding } from "./token_embedding.js";
import type { Norm } from "./transformer_block.js";

/** The embeddings of tokens and of positions, which lie under names of the family. */
export interface SequenceEmbeddings {
  readonly tokens: TokenEmbedding;
  /** (longest sequence, hidden) */
  readonly positions: Tensor;
  /** Of their sum, where the family has one. */
  readonly norm?: Norm;
}

/**
 * (tokens, hidden): what stands for tokens at their positions, where the embeddings are.
 * @param table what {@link TokenEmbedding.table} gave
 */
export function embedTokens(
  { tokens, positions, norm }: SequenceEmbeddings,
  table: Tensor,
  ids: readonly number[],
  at: readonly number[],
): Tensor {
  const sum = scaledSum(tokens.lookUp(ids, table), 1, gatherRows(positions, at), 1);
  return norm?.forward(sum) ?? sum;
}
