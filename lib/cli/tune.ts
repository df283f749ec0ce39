/** `usm-lite tune`: the weights of a model's language model, found on held-out speech. */
import { join } from "node:path";
import { Command } from "commander";
import { decodeAudio } from "../audio/decode.js";
import { readManifest } from "../data/manifest.js";
import { tuneFusion, type TuningUtterance } from "../decode/fusion_tuning.js";
import { trainLanguageModel } from "../decode/kneser_ney.js";
import { UsmLiteError } from "../errors.js";
import { writeLanguageModelWeights } from "../models/language_model_weights.js";
import { loadModel, modelFiles } from "../models/model_folder.js";
import { Recognizer } from "../transcribe/recognizer.js";

interface TuneOptions {
  model: string;
  data: string;
  text?: string;
}

export function tuneCommand(): Command {
  return new Command("tune")
    .description("Find the weights of a model's language model on held-out speech and keep them in the model folder.")
    .requiredOption("--model <folder>", "model folder with a language model; language_model.json is written into it")
    .requiredOption("--data <manifest>", "speech that the model was not trained on, nor will be tested on")
    .option("--text <manifest>", "while tuning, use a language model of these transcripts without those of --data")
    .action(async (options: TuneOptions) => {
      const model = loadModel(options.model);
      const { tokenizer, folder } = model;
      if (!model.languageModel || !tokenizer) {
        throw new UsmLiteError("INVALID_ARGUMENT", `${folder} has no ${modelFiles.languageModel}, whose weights could be tuned`);
      }
      const utterances = readManifest(options.data);
      const heldOut = new Set(utterances.map(({ text }) => text));
      const languageModel = options.text
        ? trainLanguageModel(
            readManifest(options.text).flatMap(({ text }) => (heldOut.has(text) ? [] : text)),
            { order: model.languageModel.tree.order },
          )
        : model.languageModel;
      const recognizer = new Recognizer(model);
      const prepared: TuningUtterance[] = [];
      for (const { audioPath, text } of utterances) {
        const [logProbabilities] = recognizer.logProbabilities([(await decodeAudio(audioPath)).samples]);
        if (logProbabilities) prepared.push({ logProbabilities, reference: text });
      }
      const tried = tuneFusion(prepared, languageModel, tokenizer);
      writeLanguageModelWeights(join(folder, modelFiles.languageModelWeights), tried[0]);
      for (const { alpha, beta, wordErrorRate } of tried) {
        process.stdout.write(`alpha ${alpha}, beta ${beta}: WER ${(100 * wordErrorRate).toFixed(1)} %\n`);
      }
    });
}
