/** `usm-lite evaluate`: error rates and speed on a manifest. */
import { Command, Option } from "commander";
import { checkWritable } from "../checkpoint/atomic_file.js";
import { writeJsonFile } from "../checkpoint/json_file.js";
import type { Evaluation, EvaluationPart } from "../transcribe/evaluation.js";
import { arithmeticOption, batchInvariantOption, deviceOption, languageOption, modelOption, positiveInteger } from "./options.js";

interface EvaluateOptions {
  model: string;
  device: "auto" | "cpu" | "cuda";
  arithmetic: "bfloat16" | "int8";
  batchInvariant: boolean;
  data: string;
  json?: boolean;
  decoder?: "greedy" | "beam";
  beam?: number;
  weights: "packed" | "float32";
  transcripts?: string;
  adapter?: string;
  language?: string;
}

export function evaluateCommand(): Command {
  return new Command("evaluate")
    .description("Measure word error rate and speed on a manifest of audio with transcripts.")
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(arithmeticOption())
    .addOption(batchInvariantOption())
    .requiredOption("--data <manifest>", "JSON lines with audio_filepath, duration and text")
    .option("--json", "machine-readable output")
    .addOption(new Option("--decoder <decoder>", "beam is the default with a language model").choices(["greedy", "beam"]))
    .option("--beam <width>", "hypotheses kept by the beam search", positiveInteger("--beam"))
    .addOption(
      new Option("--weights <form>", "float32 unpacks compressed weights first, to compare")
        .choices(["packed", "float32"])
        .default("packed"),
    )
    .addOption(languageOption())
    .option("--adapter <folder>", "adapter of the speaker, which usm-lite adapt wrote")
    .option("--transcripts <file>", "also write reference and hypothesis of every utterance, as JSON")
    .action(async (options: EvaluateOptions) => {
      const { readManifest } = await import("../data/manifest.js");
      const { loadModel } = await import("../models/model_folder.js");
      const { evaluate } = await import("../transcribe/evaluation.js");
      const { Recognizer } = await import("../transcribe/recognizer.js");
      if (options.transcripts) checkWritable(options.transcripts);
      const utterances = readManifest(options.data);
      const { weights, decoder, beam, device, arithmetic, batchInvariant, language } = options;
      const recognizer = new Recognizer(loadModel(options.model, { weights, device, arithmetic, batchInvariant, language }), {
        ...(decoder ? { decoder } : {}),
        ...(beam ? { beamWidth: beam } : {}),
        ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
        ...(language === undefined ? {} : { language }),
      });
      const { transcripts, ...result } = await evaluate(recognizer, utterances, {
        onProgress: (done) => {
          if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${utterances.length} utterances`);
        },
      });
      if (process.stderr.isTTY) process.stderr.write("\n");
      if (options.transcripts) writeJsonFile(options.transcripts, transcripts);
      process.stdout.write(options.json ? `${JSON.stringify(result, null, 2)}\n` : formatEvaluation(result));
    });
}

function formatEvaluation(result: Omit<Evaluation, "transcripts">): string {
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  const line = (name: string, part: EvaluationPart): string =>
    `${name}: WER ${percent(part.wer)} (95 % interval ${part.werInterval.map(percent).join(" to ")}), CER ${percent(part.cer)}, ` +
    `${part.words} words in ${part.utterances} utterances\n`;
  return [
    ...Object.entries(result.datasets).map(([name, part]) => line(name, part)),
    line("all", result),
    `${result.audioSeconds.toFixed(0)} s of audio in ${result.wallSeconds.toFixed(1)} s on ${result.threads} threads: ` +
      `RTFx ${result.rtfx.toFixed(1)}; peak memory ${(result.peakBytes / 2 ** 20).toFixed(0)} MiB\n`,
  ].join("");
}
