/** Options that several commands share, and their checks. */
import { Option } from "commander";
import { hotwordText } from "../decode/hotword_scorer.js";
import { UsmLiteError } from "../errors.js";
import { defaultModelFolder } from "../models/default_model.js";

export const modelOption = (): Option =>
  new Option("--model <folder>", "model folder").default(defaultModelFolder, "the model of this package");

/**
 * Where a command computes: "auto", "cpu" or "cuda". `cuda:1` makes the second GPU the only one that this process, and the processes
 * that it starts, see.
 */
export const deviceOption = (what = "where to compute"): Option =>
  new Option("--device <device>", `${what}: auto (a GPU that can, else the CPU), cpu, cuda or cuda:1 for the second GPU`)
    .default("auto")
    .argParser((value: string) => {
      if (value === "auto" || value === "cpu") return value;
      const [match, index] = /^cuda(?::(\d{1,3}))?$/.exec(value) ?? [];
      if (!match) throw new UsmLiteError("INVALID_ARGUMENT", `--device ${value} is unknown; choose auto, cpu, cuda or cuda:N`);
      if (index !== undefined) showOneGpu(Number(index));
      return "cuda";
    });

/** For models of several languages. */
export const languageOption = (what = "of what is said, such as en"): Option =>
  new Option(
    "--language <code>",
    `${what}; told to models of several languages: Cohere must be told, Whisper otherwise hears it itself, MMS has weights for each (fra)`,
  );

/** For what is told no language but may have to choose weights. */
export const weightsLanguageOption = (): Option =>
  new Option("--language <code>", "of a model with weights for each language (MMS), such as fra");

/** How packed layers multiply on a GPU. */
export const arithmeticOption = (): Option =>
  new Option(
    "--arithmetic <arithmetic>",
    "of packed layers on the GPU; int8 rounds activations too, as the CPU does: faster with many frames",
  )
    .choices(["bfloat16", "int8"])
    .default("bfloat16");

/** Whether results on a GPU may depend on the batch. */
export const batchInvariantOption = (): Option =>
  new Option(
    "--no-batch-invariant",
    "let the number of frames decide how a GPU divides sums: can be faster for one short recording; last bits then depend on what is heard together",
  );

/** Has to happen before anything looks for a GPU: the driver reads the variable once. */
function showOneGpu(index: number): void {
  const shown = process.env["CUDA_VISIBLE_DEVICES"]?.split(",").map((name) => name.trim());
  const chosen = shown ? shown[index] : String(index);
  if (chosen === undefined) {
    throw new UsmLiteError(
      "NO_GPU",
      `--device cuda:${index}: CUDA_VISIBLE_DEVICES shows ${shown?.length} GPUs, so the last is cuda:${(shown?.length ?? 0) - 1}`,
    );
  }
  process.env["CUDA_VISIBLE_DEVICES"] = chosen;
}

/** Gathers the values of an option that may be given any number of times. */
export const repeated = (value: string, before: readonly string[] = []): string[] => [...before, value];

/** The same for `--keyword`: a phrase without letters would fail every file. */
export function keywords(value: string, before?: readonly string[]): string[] {
  hotwordText(value);
  return repeated(value, before);
}

/** A number from 0, for options such as `--max-wait-ms`. */
export function nonNegativeNumber(name: string): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() !== "" && number >= 0 && number < Infinity) return number;
    throw new UsmLiteError("INVALID_ARGUMENT", `${name} ${value}: must be a number from 0`);
  };
}

/** A number above 0, for options such as `--max-hours`. */
export function positiveNumber(name: string): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (number > 0 && number < Infinity) return number;
    throw new UsmLiteError("INVALID_ARGUMENT", `${name} ${value}: must be a number above 0`);
  };
}

/** A whole number from 1, for options such as `--beam`. */
export function positiveInteger(name: string): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (Number.isInteger(number) && number > 0) return number;
    throw new UsmLiteError("INVALID_ARGUMENT", `${name} ${value}: must be a whole number from 1`);
  };
}

/** A port to listen on; 0 lets the system choose. */
export function portNumber(name: string): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() !== "" && Number.isInteger(number) && number >= 0 && number <= 65_535) return number;
    throw new UsmLiteError("INVALID_ARGUMENT", `${name} ${value}: must be a whole number from 0 to 65535`);
  };
}
