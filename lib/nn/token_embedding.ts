/** The vectors of tokens, which may also score them (Press, Wolf 2017). */
import { DeviceWeight } from "../device/device_weight.js";
import { frozenLinear } from "../ops/frozen_linear.js";
import { integerLinear } from "../ops/integer_linear.js";
import { linear } from "../ops/linear.js";
import { packedLinear } from "../ops/packed_linear.js";
import { gatherRows } from "../ops/row_copies.js";
import { activeTape } from "../ops/tape.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import type { MatrixWeight, WeightScope } from "./weight_source.js";

export class TokenEmbedding {
  /** Name of the weight in checkpoints, recipes and `inspect`. */
  readonly name: string;
  private readonly weight: MatrixWeight;
  /** The same as floats, whose rows are looked up. */
  private readonly rows: Tensor;

  /** @param shape (vocabulary, hidden) */
  constructor(scope: WeightScope, name: string, shape: readonly [number, number]) {
    this.name = scope.nameOf(`${name}.weight`);
    this.weight = scope.matrix(`${name}.weight`, shape, "small");
    this.rows = this.weight instanceof Tensor ? this.weight : scope.tensor(`${name}.weight`, shape, "small");
  }

  /** What is looked up and multiplied by in a forward pass: (vocabulary, hidden), pruned and quantized where the context says so. */
  table(context: ForwardContext): Tensor {
    return (this.weight instanceof Tensor && context.transformWeight?.(this.name, this.weight)) || this.rows;
  }

  /** (tokens, hidden) @param table what {@link TokenEmbedding.table} gave */
  lookUp(tokens: readonly number[], table: Tensor): Tensor {
    return gatherRows(table, tokens);
  }

  /** @param hidden (tokens, hidden); @param bias (vocabulary); returns (tokens, vocabulary) */
  scores(hidden: Tensor, table: Tensor, context: ForwardContext, bias?: Tensor): Tensor {
    context.observeInput?.(this.name, hidden);
    if (this.weight instanceof DeviceWeight) return packedLinear(hidden, this.weight, { bias });
    if (this.weight instanceof PackedMatrix)
      return activeTape() ? frozenLinear(hidden, this.weight, { bias }) : packedLinear(hidden, this.weight, { bias });
    const packed = context.packedWeight?.(this.name, table);
    return packed ? integerLinear(hidden, { weight: table, packed }, { bias }) : linear(hidden, table, { bias });
  }
}
