/** `usm-lite forward`: what the network computes, under transformers' tensor names, to compare implementations. */
import { Command } from "commander";
import { checkWritable } from "../checkpoint/atomic_file.js";
import { arithmeticOption, deviceOption, modelOption, weightsLanguageOption } from "./options.js";

export function forwardCommand(): Command {
  return new Command("forward")
    .description("Run the network on recorded features and write encoder output, logits and tokens.")
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(arithmeticOption())
    .addOption(weightsLanguageOption())
    .requiredOption(
      "--input <file>",
      "safetensors with input_features (batch, frames, mel) or input_values (batch, samples), attention_mask; for logits of Whisper and Cohere also decoder_input_ids",
    )
    .requiredOption("--output <file>", "safetensors to write")
    .action(
      async (options: {
        model: string;
        device: "auto" | "cpu" | "cuda";
        arithmetic: "bfloat16" | "int8";
        language?: string;
        input: string;
        output: string;
      }) => {
        const { readSafetensors } = await import("../checkpoint/safetensors.js");
        const { writeSafetensors } = await import("../checkpoint/safetensors_writer.js");
        const { loadModel } = await import("../models/model_folder.js");
        const { paddedForward } = await import("../models/padded_forward.js");
        checkWritable(options.output);
        const { device, arithmetic, language } = options;
        const model = loadModel(options.model, { device, arithmetic, language });
        using input = readSafetensors(options.input);
        writeSafetensors(options.output, paddedForward(model.network, input, { ...model.frontEnd.config, device: model.device }), {
          format: "pt",
        });
      },
    );
}
