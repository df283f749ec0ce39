/** `usm-lite compress`: prune, quantize, fine-tune and pack a model as a recipe says. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { Command, Option } from "commander";
import type { CompressedTensorsFormat } from "../checkpoint/compressed_tensors.js";
import { writeJsonFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import type { TrainingDevice } from "../train/training_device.js";
import { deviceOption } from "./options.js";

interface CompressOptions {
  model: string;
  recipe: string;
  data?: string;
  language?: string;
  test?: string;
  out?: string;
  dryRun?: boolean;
  format?: CompressedTensorsFormat;
  device: TrainingDevice;
}

export function compressCommand(): Command {
  return new Command("compress")
    .description("Prune, quantize, fine-tune and pack a float model.")
    .requiredOption("--model <folder>", "folder of the float model")
    .requiredOption("--recipe <file>", "YAML file; docs/recipes.md lists its keys")
    .option("--data <manifest>", "training speech, for recipes that train or calibrate")
    .option(
      "--language <code>",
      "language of the training speech, such as en, for models that are told it; of MMS the one to compress (fra), whose weights it keeps",
    )
    .option("--test <manifest>", "speech to measure error rates on before and after, for the report of a run")
    .option("--out <folder>", "folder to make, which no other run may be making; one that was stopped goes on when called again")
    .addOption(
      new Option(
        "--format <format>",
        "layout of compressed-tensors to insist on, for vLLM and transformers: all weights of one dense spec, for int-quantized int8",
      ).choices(["pack-quantized", "int-quantized"] satisfies CompressedTensorsFormat[]),
    )
    .addOption(deviceOption("where stages with training compute"))
    .option("--dry-run", "say what each layer would become, its size and about how long it takes, and do nothing")
    .action(async (options: CompressOptions) => {
      const { readRecipe } = await import("../compress/recipe.js");
      const recipe = readRecipe(options.recipe);
      if (options.dryRun) {
        const { dryRun, formatDryRun } = await import("../compress/dry_run.js");
        const { model, data: manifest, language, format } = options;
        process.stdout.write(formatDryRun(dryRun({ model, recipe, manifest, language, format })));
        return;
      }
      if (options.out === undefined) {
        throw new UsmLiteError("INVALID_ARGUMENT", "name the folder to make with --out, or ask with --dry-run what would be made");
      }
      const { compressModel } = await import("../compress/compress_model.js");
      // Not after hours of training.
      if (options.test !== undefined) (await import("../data/manifest.js")).readManifest(options.test);
      const completed = await compressModel({
        model: options.model,
        recipe,
        manifest: options.data,
        language: options.language,
        out: options.out,
        format: options.format,
        device: options.device,
        onStatus: (sentence) => console.error(sentence),
      });
      if (!completed) {
        console.error("stopped; call again to continue");
        process.exitCode = 1; // what a script would do with the model must wait
        return;
      }
      if (options.test !== undefined) await measure(options.model, options.out, { manifest: options.test, language: options.language });
      const { formatSizeReports } = await import("../compress/size_report.js");
      process.stdout.write(formatSizeReports(options.out));
    });
}

/** Error rates of both models, or of the float one and each that was made, on stderr and, of a run, in its report. */
async function measure(
  float: string,
  compressed: string,
  { manifest, language }: { manifest: string; language: string | undefined },
): Promise<void> {
  const { readManifest } = await import("../data/manifest.js");
  const { loadModel } = await import("../models/model_folder.js");
  const { evaluate } = await import("../transcribe/evaluation.js");
  const { Recognizer } = await import("../transcribe/recognizer.js");
  const { evaluationFile, writeRunReport } = await import("../compress/report/run_report.js");
  const { modelFolders } = await import("../compress/size_report.js");
  const utterances = readManifest(manifest);
  const models = [];
  const folders = modelFolders(compressed);
  const made = folders.map((folder) => [folder === compressed ? "compressed" : basename(folder), folder] as const);
  for (const [name, folder] of [["float32", float] as const, ...made]) {
    const { wer, werInterval, cer, words } = await evaluate(
      new Recognizer(loadModel(folder, { language }), language === undefined ? {} : { language }),
      utterances,
    );
    console.error(
      `${name}: WER ${(100 * wer).toFixed(1)} % (95 % interval ${werInterval.map((end) => `${(100 * end).toFixed(1)} %`).join(" to ")})`,
    );
    models.push({ name, wer, werInterval, cer, words });
  }
  const run = `${compressed}.run`;
  if (!existsSync(run)) return;
  writeJsonFile(evaluationFile(run), { manifest, models });
  writeRunReport(run, folders.length === 1 ? compressed : undefined);
}
