/** Options that several commands share, and their checks. */
import { Option } from "commander";
import { UsmLiteError } from "../errors.js";
import { defaultModelFolder } from "../models/default_model.js";

export const modelOption = (): Option =>
  new Option("--model <folder>", "model folder").default(defaultModelFolder, "the model of this package");

/** The processor is the only device so far; `cuda` is refused with a reason instead of ignored. */
export const deviceOption = (): Option =>
  new Option("--device <device>", "where to compute: auto, cpu or cuda").default("auto").argParser((value: string) => {
    if (value === "auto" || value === "cpu") return value;
    if (/^cuda(:\d+)?$/.test(value)) {
      throw new UsmLiteError("NO_GPU", `--device ${value}: this version computes on the CPU only; use --device cpu`);
    }
    throw new UsmLiteError("INVALID_ARGUMENT", `--device ${value} is unknown; choose auto, cpu or cuda`);
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
