/** Small batches of transducers. */
import { SequenceOffsets, Tensor, transducerLoss, type TransducerLossOptions, type TransducerLossResult } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";

export interface TransducerCase {
  readonly lengths: readonly number[];
  readonly targets: readonly (readonly number[])[];
  readonly vocabulary: number;
  readonly joint: number;
  readonly options: TransducerLossOptions;
  /** Of the weights of the joint network: large ones give sharp distributions. */
  readonly scale?: number;
}

/** frames, predictions, weight, bias */
export function operands({ lengths, targets, vocabulary, joint, options, scale = 1 }: TransducerCase, seed: number): Tensor[] {
  const outputs = vocabulary + (options.durations?.length ?? 0);
  const predictions = targets.reduce((sum, { length }) => sum + length + 1, 0);
  const weight = Tensor.from(
    randomValues(outputs * joint, seed + 2).map((x) => scale * x),
    [outputs, joint],
  );
  return [
    randomTensor([lengths.reduce((a, b) => a + b), joint], seed),
    randomTensor([predictions, joint], seed + 1),
    weight,
    randomTensor([outputs], seed + 3),
  ];
}

/** @param operands as {@link operands} gives them */
export const resultOf = (
  { lengths, targets, options }: TransducerCase,
  [frames, predictions, weight, bias]: readonly Tensor[],
  more: Partial<TransducerLossOptions> = {},
): TransducerLossResult =>
  transducerLoss(
    frames as Tensor,
    new SequenceOffsets(lengths),
    predictions as Tensor,
    targets,
    { weight: weight as Tensor, bias: bias as Tensor },
    { ...options, ...more },
  );

export const lossOf = (one: TransducerCase, inputs: readonly Tensor[]): Tensor => resultOf(one, inputs).loss;

export const plain: TransducerCase = {
  lengths: [4, 3, 1, 5],
  targets: [[1, 2], [], [2], [2, 2, 1]],
  vocabulary: 3,
  joint: 5,
  options: { blank: 0, reduction: "none" },
};
export const timed: TransducerCase = {
  ...plain,
  targets: [[0, 1], [], [1], [1, 1, 0]],
  options: { blank: 2, durations: [0, 1, 2, 4], undernormalization: 0.05, reduction: "none" },
};
