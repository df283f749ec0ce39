/** The likeliest of the tokens that may come next, and how probable they are: what decoders that write token after token ask of their scores. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceChooseTokens } from "../device/token_choice.js";
import { addon } from "../native/addon.js";
import { keep } from "../tensor/scope.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface TokenChoiceBindings {
  chooseTokens(scores: TensorHandle, bias: TensorHandle, rules: TensorHandle, count: number): TensorHandle;
}

const native = addon as TokenChoiceBindings;

/** Sets of tokens that never come, in the form that kernels add to scores: made once, used for every token that is written. */
export class ExcludedTokens implements Disposable {
  /** (sets, vocabulary): minus infinity for what is in a set, 0 for the rest. */
  readonly bias: Tensor;
  private biasOnGpu: DeviceTensor | undefined;

  /** @param sets ids of tokens, of which those beyond the vocabulary say nothing; at least one set, which may be empty */
  constructor(vocabularySize: number, sets: readonly Iterable<number>[]) {
    const values = new Float32Array(sets.length * vocabularySize);
    sets.forEach((ids, set) => {
      for (const id of ids) if (id < vocabularySize) values[set * vocabularySize + id] = -Infinity;
    });
    this.bias = keep(Tensor.from(values, [sets.length, vocabularySize]));
  }

  get onGpu(): DeviceTensor {
    return (this.biasOnGpu ??= keep(DeviceTensor.from(this.bias, "float32")));
  }

  [Symbol.dispose](): void {
    this.bias.dispose();
    this.biasOnGpu?.dispose();
  }
}

/** What may follow one sequence. */
export interface AllowedTokens {
  /** The set of {@link ExcludedTokens} that may not come. */
  readonly without: number;
  /** Ranges [begin, end) of tokens that may not come either, two at most; an end may lie beyond the vocabulary. */
  readonly forbidden: readonly (readonly [begin: number, end: number])[];
  /** Tokens from here on come alone when all of them together are likelier than the likeliest token before them. */
  readonly together?: number | undefined;
}

/** A token that may come next. */
export interface TokenChoice {
  readonly id: number;
  /** Natural logarithm of its probability among all tokens. */
  readonly logProbability: number;
  /** The same among those that may come. */
  readonly allowedLogProbability: number;
}

const numbersOfRules = 6;
const numbersOfChoice = 3;

/**
 * @param scores (sequences, vocabulary), before softmax; 16-bit floats on the GPU
 * @param allowed of each sequence
 * @param count of choices
 * @returns for each sequence its likeliest tokens, best first, the first of equals; fewer where fewer may come. `NaN` stands for the
 * probabilities of a sequence with a score that is NaN or infinite.
 * @throws UsmLiteError INVALID_ARGUMENT for rules with tokens or sets that do not exist, and for more than 64 choices
 */
export function chooseTokens(scores: Tensor, excluded: ExcludedTokens, allowed: readonly AllowedTokens[], count = 1): TokenChoice[][] {
  const rules = Tensor.from(Int32Array.from(allowed.flatMap((of) => rulesOf(of, scores.dim(1)))), [allowed.length, numbersOfRules]);
  const choices =
    scores instanceof DeviceTensor
      ? deviceChooseTokens(scores, excluded.onGpu, rules, count)
      : new Tensor(native.chooseTokens(scores.handle, excluded.bias.handle, rules.handle, count));
  const values = choices.toArray();
  [rules, choices].forEach((tensor) => tensor.dispose());
  return allowed.map((_, row) =>
    Array.from({ length: count }, (_, place) => {
      const first = (row * count + place) * numbersOfChoice;
      const [id, logProbability, allowedLogProbability] = values.subarray(first, first + numbersOfChoice) as unknown as [
        number,
        number,
        number,
      ];
      return { id, logProbability, allowedLogProbability };
    }).filter(({ id, logProbability }) => id >= 0 || Number.isNaN(logProbability)),
  );
}

function rulesOf({ without, forbidden, together = Infinity }: AllowedTokens, vocabularySize: number): number[] {
  const within = (id: number): number => Math.min(id, vocabularySize);
  const [[a, b] = [0, 0], [c, d] = [0, 0]] = forbidden;
  return [without, within(a), within(b), within(c), within(d), within(together)];
}
