/** `usm-lite inspect`: how each weight of a model is coded and what it costs. */
import { Command } from "commander";
import { modelOption, weightsLanguageOption } from "./options.js";

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("Show spec, bytes and bits per weight of every layer.")
    .argument("[folder]", "model folder")
    .addOption(modelOption().hideHelp())
    .addOption(weightsLanguageOption())
    .option("--json", "machine-readable output")
    .action(async (folder: string | undefined, options: { model: string; language?: string; json?: boolean }) => {
      const { formatSizeReport, measureModel } = await import("../compress/size_report.js");
      const report = measureModel(folder ?? options.model, options.language);
      process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : formatSizeReport(report));
    });
}
