/** Finds the weights of a language model that make the fewest word errors on held-out speech. */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { wordErrorRate } from "../text/word_error_rate.js";
import { ctcBeamSearch, type BeamSearchOptions } from "./ctc_beam_search.js";
import type { LogProbabilities } from "./hypothesis.js";
import { LanguageModelScorer } from "./language_model_scorer.js";
import type { NgramLanguageModel } from "./ngram_language_model.js";

/** Held-out speech for {@link tuneFusion}. */
export interface TuningUtterance {
  readonly logProbabilities: LogProbabilities;
  readonly reference: string;
}

/** Weights of a language model that {@link tuneFusion} tried, and what they give. */
export interface FusionWeights {
  readonly alpha: number;
  readonly beta: number;
  readonly blankPenalty: number;
  /** Word error rate with these weights. */
  readonly wordErrorRate: number;
}

export interface FusionTuningOptions extends Omit<BeamSearchOptions, "scorers" | "blankPenalty"> {
  /** Default 0.4, 0.6, 0.8, 1, 1.2, 1.4. */
  readonly alphas?: readonly number[];
  /** Default 0, 1, 2, 3. */
  readonly betas?: readonly number[];
  /** Default 0, 0.5, 1, 1.5, 2. */
  readonly blankPenalties?: readonly number[];
}

/**
 * Decodes all utterances with every blank penalty and the middle one of the other weights, then with every pair of those
 * and the best penalty, then with every penalty and the best pair. Use speech that neither the acoustic nor the language model was trained on, and not the test set.
 * @returns all that was tried, fewest errors first; of equal ones the smallest `blankPenalty`, then `alpha`, then `beta`
 * @throws UsmLiteError INVALID_ARGUMENT when there are no utterances or no weights
 *
 * @example
 * const [{ alpha, beta, blankPenalty }] = tuneFusion(heldOutSpeech, languageModel, tokenizer, { alphas: [0.5, 1], betas: [0, 2] });
 */
export function tuneFusion(
  utterances: readonly TuningUtterance[],
  model: NgramLanguageModel,
  tokenizer: Tokenizer,
  options: FusionTuningOptions = {},
): [FusionWeights, ...FusionWeights[]] {
  const { alphas = [0.4, 0.6, 0.8, 1, 1.2, 1.4], betas = [0, 1, 2, 3], blankPenalties = [0, 0.5, 1, 1.5, 2], ...search } = options;
  const tried: FusionWeights[] = [];
  const attempt = (alpha: number, beta: number, blankPenalty: number): void => {
    if (tried.some((one) => one.alpha === alpha && one.beta === beta && one.blankPenalty === blankPenalty)) return;
    const scorers = [new LanguageModelScorer(model, tokenizer, { alpha, beta })];
    const transcriptions = utterances.map(({ logProbabilities, reference }) => ({
      reference,
      hypothesis: ctcBeamSearch(logProbabilities, tokenizer, { secondsPerFrame: 1 }, { ...search, scorers, blankPenalty })[0]?.text ?? "",
    }));
    const wordErrorRateOf = wordErrorRate(transcriptions, { resamples: 1 }).rate;
    tried.push({ alpha, beta, blankPenalty, wordErrorRate: wordErrorRateOf });
    tried.sort((a, b) => a.wordErrorRate - b.wordErrorRate || a.blankPenalty - b.blankPenalty || a.alpha - b.alpha || a.beta - b.beta);
  };
  const middle = (values: readonly number[]): readonly number[] => values.slice(values.length >> 1).slice(0, 1);
  for (const alpha of middle(alphas)) {
    for (const beta of middle(betas)) for (const penalty of blankPenalties) attempt(alpha, beta, penalty);
  }
  const best = tried[0]?.blankPenalty ?? 0;
  for (const alpha of alphas) for (const beta of betas) attempt(alpha, beta, best);
  const pair = tried[0];
  if (pair) for (const penalty of blankPenalties) attempt(pair.alpha, pair.beta, penalty);
  const [first, ...others] = tried;
  if (!first) throw new UsmLiteError("INVALID_ARGUMENT", "there are no weights to try");
  return [first, ...others];
}
