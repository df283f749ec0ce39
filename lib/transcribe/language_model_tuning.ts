/** Finds the weights of a model's language model on held-out speech. */
import { join } from "node:path";
import { OutputLock } from "../checkpoint/output_lock.js";
import { hasWords, readManifest } from "../data/manifest.js";
import { readUtterance } from "../data/utterance_audio.js";
import { tuneFusion, type FusionWeights, type TuningUtterance } from "../decode/fusion_tuning.js";
import { trainLanguageModel } from "../decode/kneser_ney.js";
import { UsmLiteError } from "../errors.js";
import { writeLanguageModelWeights } from "../models/language_model_weights.js";
import { loadModel, modelFiles, type LoadOptions } from "../models/model_folder.js";
import { Recognizer } from "./recognizer.js";

export interface LanguageModelTuningOptions {
  /** Model folder with a language model; the weights are written into it. */
  readonly model: string;
  /** Manifest of speech that the model was not trained on, nor will be tested on. */
  readonly data: string;
  /** While tuning, a language model of these transcripts without those of `data` is used. */
  readonly text?: string;
  /** Of a model with weights for each language, which one; as in {@link LoadOptions}. */
  readonly language?: string | undefined;
  /** Where the network computes; as in {@link LoadOptions}, "cpu" by default. */
  readonly device?: LoadOptions["device"];
}

/**
 * Returns all weights tried, best first, and keeps the best in the model folder.
 * @throws UsmLiteError INVALID_ARGUMENT when the model has no language model, or does not know the language; BAD_MANIFEST when `data` has no words, or `text` none but those
 * of `data`; OUTPUT_IN_USE while it is tuned elsewhere; NO_GPU, UNSUPPORTED_MODEL for device "cuda"; errors of audio files name manifest line
 * and file
 */
export async function tuneLanguageModel(options: LanguageModelTuningOptions): Promise<readonly FusionWeights[]> {
  const { data, text, language, device = "cpu" } = options;
  const model = loadModel(options.model, { device, language });
  const { tokenizer, folder } = model;
  if (!model.languageModel || !tokenizer) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${folder} has no ${modelFiles.languageModel}, whose weights could be tuned`);
  }
  using _lock = OutputLock.beside(join(folder, modelFiles.languageModelWeights));
  const utterances = readManifest(data);
  if (!utterances.some(hasWords)) {
    throw new UsmLiteError("BAD_MANIFEST", `no utterance of ${data} has words in its transcript, so there is no error rate to tune by`);
  }
  const heldOut = new Set(utterances.map((utterance) => utterance.text));
  const others = text === undefined ? [] : readManifest(text).filter((utterance) => hasWords(utterance) && !heldOut.has(utterance.text));
  if (text !== undefined && others.length === 0) {
    throw new UsmLiteError(
      "BAD_MANIFEST",
      `${text} has no transcript that is not in ${data}, so there is nothing to make a language model of`,
    );
  }
  const languageModel =
    text === undefined
      ? model.languageModel
      : trainLanguageModel(
          others.map((utterance) => utterance.text),
          { order: model.languageModel.tree.order },
        );
  const recognizer = new Recognizer(model, language === undefined ? {} : { language });
  const prepared: TuningUtterance[] = [];
  for (const utterance of utterances) {
    const [logProbabilities] = recognizer.logProbabilities([await readUtterance(utterance, model.frontEnd.config.samplingRate)]);
    if (logProbabilities) prepared.push({ logProbabilities, reference: utterance.text });
  }
  const tried = tuneFusion(prepared, languageModel, tokenizer);
  writeLanguageModelWeights(join(folder, modelFiles.languageModelWeights), tried[0]);
  return tried;
}
