/** Finds the weights of a language model that make the fewest word errors on held-out speech. */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { wordErrorRate } from "../text/word_error_rate.js";
import { ctcBeamSearch, type BeamSearchOptions } from "./ctc_beam_search.js";
import type { LogProbabilities } from "./hypothesis.js";
import { LanguageModelScorer } from "./language_model_scorer.js";
import type { NgramLanguageModel } from "./ngram_language_model.js";

export interface TuningUtterance {
  readonly logProbabilities: LogProbabilities;
  readonly reference: string;
}

export interface FusionWeights {
  readonly alpha: number;
  readonly beta: number;
  /** Word error rate with these weights. */
  readonly wordErrorRate: number;
}

export interface FusionTuningOptions extends Omit<BeamSearchOptions, "scorers"> {
  /** Default 0.3, 0.4, 0.5, 0.6, 0.8. */
  readonly alphas?: readonly number[];
  /** Default -1, 0, 1, 2. */
  readonly betas?: readonly number[];
}

/**
 * Decodes all utterances with every pair of weights. Use speech that neither the acoustic nor the language model was
 * trained on, and not the test set.
 * @returns all pairs, fewest errors first; of equal ones the smallest `alpha`, then `beta`
 * @throws UsmLiteError INVALID_ARGUMENT when there are no utterances or no weights
 */
export function tuneFusion(
  utterances: readonly TuningUtterance[],
  model: NgramLanguageModel,
  tokenizer: Tokenizer,
  options: FusionTuningOptions = {},
): [FusionWeights, ...FusionWeights[]] {
  const { alphas = [0.3, 0.4, 0.5, 0.6, 0.8], betas = [-1, 0, 1, 2], ...search } = options;
  const tried = alphas.flatMap((alpha) =>
    betas.map((beta): FusionWeights => {
      const scorers = [new LanguageModelScorer(model, tokenizer, { alpha, beta })];
      const transcriptions = utterances.map(({ logProbabilities, reference }) => ({
        reference,
        hypothesis:
          ctcBeamSearch(logProbabilities, tokenizer, { secondsPerFrame: 1 }, { ...search, scorers })[0]?.text ?? "",
      }));
      return { alpha, beta, wordErrorRate: wordErrorRate(transcriptions, { resamples: 1 }).rate };
    }),
  );
  const [best, ...others] = tried.sort(
    (a, b) => a.wordErrorRate - b.wordErrorRate || a.alpha - b.alpha || a.beta - b.beta,
  );
  if (!best) throw new UsmLiteError("INVALID_ARGUMENT", "there are no weights to try");
  return [best, ...others];
}
