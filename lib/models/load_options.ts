/** Which options {@link loadModel} has, and what may be chosen: those who write JavaScript are told of others. */
import { UsmLiteError } from "../errors.js";
import { checkOptionNames, type OptionNames } from "../known_options.js";
import type { loadModel, LoadOptions } from "./model_folder.js";

export const loadOptionNames: OptionNames<LoadOptions> = {
  weights: true,
  device: true,
  arithmetic: true,
  batchInvariant: true,
  language: true,
  sharedMatrices: true,
};

const loadChoices = {
  weights: ["packed", "float32"],
  device: ["auto", "cpu", "cuda"],
  arithmetic: ["bfloat16", "int8"],
} as const satisfies {
  readonly [Name in "weights" | "device" | "arithmetic"]: readonly NonNullable<LoadOptions[Name]>[];
};

/** @throws UsmLiteError INVALID_ARGUMENT for an option that does not exist, or a choice that there is not */
export function checkLoadOptions(options: LoadOptions): void {
  checkOptionNames("loadModel", options, loadOptionNames);
  for (const [name, choices] of Object.entries(loadChoices)) {
    const chosen = options[name as keyof typeof loadChoices];
    if (chosen === undefined || (choices as readonly unknown[]).includes(chosen)) continue;
    throw new UsmLiteError("INVALID_ARGUMENT", `${name} ${JSON.stringify(chosen)} is unknown; choose ${choices.join(", ")}`);
  }
}
