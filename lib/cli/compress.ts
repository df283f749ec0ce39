/** `usm-lite compress`: prune, quantize, fine-tune and pack a model as a recipe says. */
import { Command } from "commander";

interface CompressOptions {
  model: string;
  recipe: string;
  data?: string;
  out: string;
}

export function compressCommand(): Command {
  return new Command("compress")
    .description("Prune, quantize, fine-tune and pack a float model.")
    .requiredOption("--model <folder>", "folder of the float model")
    .requiredOption("--recipe <file>", "YAML file; docs/recipes.md lists its keys")
    .option("--data <manifest>", "training speech, for recipes that train or calibrate")
    .requiredOption("--out <folder>", "folder to make; a run that was stopped goes on when called again")
    .action(async (options: CompressOptions) => {
      const { compressModel } = await import("../compress/compress_model.js");
      const { readRecipe } = await import("../compress/recipe.js");
      const { formatSizeReport, measureModel } = await import("../compress/size_report.js");
      const completed = await compressModel({
        model: options.model,
        recipe: readRecipe(options.recipe),
        manifest: options.data,
        out: options.out,
        onStatus: (sentence) => console.error(sentence),
      });
      if (completed) process.stdout.write(formatSizeReport(measureModel(options.out)));
      else console.error("stopped; call again to continue");
    });
}
