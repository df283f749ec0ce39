/** `usm-lite tune`: the weights of a model's language model, found on held-out speech. */
import { Command } from "commander";
import { deviceOption, weightsLanguageOption } from "./options.js";

interface TuneOptions {
  model: string;
  data: string;
  device: "auto" | "cpu" | "cuda";
  text?: string;
  language?: string;
}

export function tuneCommand(): Command {
  return new Command("tune")
    .description("Find the weights of a model's language model on held-out speech and keep them in the model folder.")
    .requiredOption("--model <folder>", "model folder with a language model; language_model.json is written into it")
    .requiredOption("--data <manifest>", "speech that the model was not trained on, nor will be tested on")
    .addOption(deviceOption())
    .addOption(weightsLanguageOption())
    .option("--text <manifest>", "while tuning, use a language model of these transcripts without those of --data")
    .action(async (options: TuneOptions) => {
      const { tuneLanguageModel } = await import("../transcribe/language_model_tuning.js");
      for (const { alpha, beta, blankPenalty, wordErrorRate } of await tuneLanguageModel(options)) {
        process.stdout.write(`alpha ${alpha}, beta ${beta}, blank penalty ${blankPenalty}: WER ${(100 * wordErrorRate).toFixed(1)} %\n`);
      }
    });
}
