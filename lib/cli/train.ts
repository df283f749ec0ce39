/** `usm-lite train`: a float model from manifests of speech with transcripts. */
import { Command } from "commander";
import type { TrainingDevice } from "../train/training_device.js";
import { deviceOption } from "./options.js";

export function trainCommand(): Command {
  return new Command("train")
    .description("Train a float Conformer-CTC model.")
    .requiredOption("--config <file>", "YAML file; docs/training.md lists its keys")
    .requiredOption("--out <folder>", "folder of the run, which no other may use: checkpoints, metrics, and in the end model/")
    .option("--resume", "continue from the newest checkpoint in the folder; where there is none, begin")
    .addOption(deviceOption("where to train"))
    .action(async (options: { config: string; out: string; resume?: boolean; device: TrainingDevice }) => {
      const { trainFloatModel } = await import("../train/float_training.js");
      const { readTrainingConfig } = await import("../train/training_config.js");
      const { step, completed } = await trainFloatModel(readTrainingConfig(options.config), {
        out: options.out,
        resume: options.resume ?? false,
        device: options.device,
        onStatus: (sentence) => console.error(sentence),
      });
      if (!completed) process.exitCode = 1; // what a script would do with the model must wait
      console.error(completed ? `done after ${step} steps` : `stopped at step ${step}; continue with --resume`);
    });
}
