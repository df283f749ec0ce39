/** The prediction network of a transducer (Graves 2012): an LSTM over the tokens so far. */
import { integerLinear } from "../ops/integer_linear.js";
import { linear } from "../ops/linear.js";
import { packedLinear } from "../ops/packed_linear.js";
import { lstmCell } from "../ops/lstm_cell.js";
import { lstmSequence } from "../ops/lstm_sequence.js";
import { scaledSum } from "../ops/elementwise.js";
import { gatherRows } from "../ops/row_copies.js";
import { DeviceTensor } from "../device/device_tensor.js";
import type { TransducerWeights } from "../device/transducer_decoder.js";
import { UsmLiteError } from "../errors.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import type { MatrixWeight, WeightScope } from "./weight_source.js";

interface PredictionNetworkSizes {
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
}

/** What the network knows after some tokens. */
export interface Prediction {
  /** (hidden), projected for the joint network. */
  readonly output: Float32Array;
  /** Hidden and cell state of each layer. */
  readonly state: Float32Array;
}

interface Layer {
  readonly name: string;
  readonly input: MatrixWeight;
  readonly recurrent: MatrixWeight;
  readonly inputBias: Tensor;
  readonly recurrentBias: Tensor;
}

export class PredictionNetwork {
  private readonly embedding: Tensor;
  private readonly layers: readonly Layer[];
  private readonly projector: Linear;

  constructor(
    private readonly scope: WeightScope,
    private readonly sizes: PredictionNetworkSizes,
  ) {
    const { vocabulary, hidden, layers } = sizes;
    this.embedding = scope.tensor("embedding.weight", [vocabulary, hidden], "small");
    const lstm = scope.scope("lstm");
    this.layers = Array.from({ length: layers }, (_, index) => ({
      name: `l${index}`,
      input: lstm.matrix(`weight_ih_l${index}`, [4 * hidden, hidden], "fanIn"),
      recurrent: lstm.matrix(`weight_hh_l${index}`, [4 * hidden, hidden], "fanIn"),
      inputBias: lstm.tensor(`bias_ih_l${index}`, [4 * hidden], "zeros"),
      recurrentBias: lstm.tensor(`bias_hh_l${index}`, [4 * hidden], "zeros"),
    }));
    this.projector = new Linear(scope, "decoder_projector", [hidden, hidden], { bias: true });
  }

  /**
   * One more token for each of several hypotheses, on the CPU; the result for one does not depend on the others. Weights of a network that is
   * trained on the GPU are copied from there for each call.
   * @param tokens last token of each
   * @param before what was known before it; absent: nothing
   */
  predict(tokens: readonly number[], before: readonly (Prediction | undefined)[]): Prediction[] {
    const { hidden, layers } = this.sizes;
    const rows = tokens.length;
    const stateOf = (slot: number): Tensor => {
      const values = new Float32Array(rows * hidden);
      before.forEach((prediction, row) => {
        if (prediction) values.set(prediction.state.subarray(slot * hidden, (slot + 1) * hidden), row * hidden);
      });
      return Tensor.from(values, [rows, hidden]);
    };
    return tidy(() => {
      let x = gatherRows(floatsOf(this.embedding), tokens);
      const states: Float32Array[] = [];
      this.layers.forEach((layer, index) => {
        const fromInput = multiply(x, layer.input, { bias: layer.inputBias });
        const gates = multiply(stateOf(2 * index), layer.recurrent, { bias: layer.recurrentBias, residual: fromInput });
        const next = lstmCell(gates, stateOf(2 * index + 1));
        x = next.hidden;
        states.push(next.hidden.toArray(), next.cell.toArray());
      });
      const outputs = multiply(x, this.projector.weight, { bias: this.projector.bias }).toArray();
      return tokens.map((_, row): Prediction => {
        const state = new Float32Array(2 * layers * hidden);
        states.forEach((values, slot) => state.set(values.subarray(row * hidden, (row + 1) * hidden), slot * hidden));
        return { output: outputs.slice(row * hidden, (row + 1) * hidden), state };
      });
    });
  }

  /**
   * What the network makes of every prefix of known transcripts, differentiably: for training, with float weights.
   * @param targets token ids of each transcript
   * @param start what stands before the first token
   * @returns (tokens + transcripts, hidden): of each transcript its prefixes, the empty one first
   */
  forward(targets: readonly (readonly number[])[], start: number, context: ForwardContext): Tensor {
    const offsets = new SequenceOffsets(targets.map((labels) => labels.length + 1));
    let x = gatherRows(
      this.embedding,
      targets.flatMap((labels) => [start, ...labels]),
    );
    for (const layer of this.layers) {
      const [input, recurrent] = (["ih", "hh"] as const).map((part) => {
        const weight = part === "ih" ? layer.input : layer.recurrent;
        if (!(weight instanceof Tensor))
          throw new UsmLiteError("UNSUPPORTED_MODEL", "packed weights cannot be trained; load the model with float weights");
        return context.transformWeight?.(this.scope.nameOf(`lstm.weight_${part}_${layer.name}`), weight) ?? weight;
      }) as [Tensor, Tensor];
      context.observeInput?.(this.scope.nameOf(`lstm.weight_ih_${layer.name}`), x);
      const bias = scaledSum(layer.inputBias, 1, layer.recurrentBias, 1);
      const packed = context.packedWeight?.(this.scope.nameOf(`lstm.weight_ih_${layer.name}`), input);
      const gates = packed ? integerLinear(x, { weight: input, packed }, { bias }) : linear(x, input, { bias });
      x = lstmSequence(gates, recurrent, offsets);
      // The states of all steps but the last are what the next ones multiply.
      context.observeInput?.(this.scope.nameOf(`lstm.weight_hh_${layer.name}`), x);
    }
    return this.projector.forward(x, context);
  }

  /** Its weights as floats, for another device; those that were packed are made anew. */
  floatWeights(): Omit<TransducerWeights, "head"> {
    return {
      embedding: floatsOf(this.embedding),
      layers: this.layers.map(({ input, recurrent, inputBias, recurrentBias }) => ({
        input: { weight: floatsOf(input), bias: floatsOf(inputBias) },
        recurrent: { weight: floatsOf(recurrent), bias: floatsOf(recurrentBias) },
      })),
      projector: { weight: floatsOf(this.projector.weight), bias: this.projector.bias && floatsOf(this.projector.bias) },
    };
  }

  /** Names of the weights that compression applies to. */
  get weightNames(): string[] {
    const lstm = this.layers.flatMap(({ name }) => [`lstm.weight_ih_${name}`, `lstm.weight_hh_${name}`]);
    return [...lstm.map((name) => this.scope.nameOf(name)), this.projector.name];
  }
}

/** A product on the CPU, wherever the weight is. */
export function multiply(x: Tensor, weight: MatrixWeight, { bias, residual }: { bias: Tensor | undefined; residual?: Tensor }): Tensor {
  const options = { bias: bias && floatsOf(bias), residual };
  return weight instanceof Tensor ? linear(x, floatsOf(weight), options) : packedLinear(x, weight, options);
}

/** (out, in), on the CPU: a packed weight is what it makes of the rows of an identity. */
export function floatsOf(weight: MatrixWeight): Tensor {
  if (weight instanceof DeviceTensor) return weight.toTensor();
  if (weight instanceof Tensor) return weight;
  const { rows, columns } = weight;
  const identity = Tensor.from(
    Float32Array.from({ length: columns * columns }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0)),
    [columns, columns],
  );
  const transposed = packedLinear(identity, weight, { activations: "float32" }).toArray();
  return Tensor.from(
    Float32Array.from({ length: rows * columns }, (_, i) => transposed[(i % columns) * rows + Math.floor(i / columns)] as number),
    [rows, columns],
  );
}
