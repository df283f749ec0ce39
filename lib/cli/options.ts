/** Options that several commands share, and their checks. */
import { Option } from "commander";
import { UsmLiteError } from "../errors.js";
import { defaultModelFolder } from "../models/default_model.js";

export const modelOption = (): Option =>
  new Option("--model <folder>", "model folder").default(defaultModelFolder, "the model of this package");

/**
 * `auto` is the CPU as long as not every model family computes on a GPU. `gpu`: whether the command can; others refuse `cuda`
 * with a reason instead of ignoring it.
 */
export const deviceOption = ({ gpu = false } = {}): Option =>
  new Option("--device <device>", "where to compute: auto, cpu or cuda").default("cpu", "auto, the CPU").argParser((value: string) => {
    if (value === "auto" || value === "cpu") return "cpu";
    const [, index] = /^cuda(?::(\d+))?$/.exec(value) ?? [];
    if (!value.startsWith("cuda") || (value !== "cuda" && index === undefined)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `--device ${value} is unknown; choose auto, cpu or cuda`);
    }
    if (!gpu) throw new UsmLiteError("NO_GPU", `--device ${value}: this command computes on the CPU only; use --device cpu`);
    if (Number(index ?? 0) > 0) {
      throw new UsmLiteError("INVALID_ARGUMENT", `--device ${value}: the first GPU is used; choose another with CUDA_VISIBLE_DEVICES=${index} --device cuda`);
    }
    return "cuda";
  });

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
