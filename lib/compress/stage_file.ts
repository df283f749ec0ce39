/** What a finished stage left, in a file, so that a recipe with several stages goes on after the last finished one. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { checkedValue } from "../checkpoint/checked_value.js";
import { parseJsonObject, readJsonFile, writeJsonFile } from "../checkpoint/json_file.js";
import { readSafetensors } from "../checkpoint/safetensors.js";
import { writeSafetensors, type SafetensorsEntry } from "../checkpoint/safetensors_writer.js";
import { UsmLiteError } from "../errors.js";
import { activationCodings } from "../quant/activation_coding.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { parseWeightSpec } from "../quant/weight_spec.js";
import type { CompressionPlan } from "./compression_plan.js";
import type { CompressionState } from "./compression_state.js";

/** Metadata: what weights are multiplied by, where it is not the default. */
const activationsKey = "activations";

const activationsSchema = z.record(z.string(), z.enum(activationCodings));

const parts = ["mask", "scale", "zeroPoint"] as const;

export const stageFile = (run: string, index: number, name: string): string => join(run, `${index + 1}-${name}.safetensors`);

/** Writes weights, masks and scales, whole or not at all. */
export function saveStage(path: string, state: CompressionState, buffers: ReadonlyMap<string, Tensor>): void {
  const entries: [string, SafetensorsEntry][] = [];
  for (const [name, weight] of [...state.parameters, ...buffers]) entries.push([`weight.${name}`, weight]);
  for (const name of state.parameters.keys()) {
    const coding = state.coding(name);
    for (const part of parts) if (coding[part]) entries.push([`${part}.${name}`, coding[part]]);
  }
  const activations = [...state.parameters.keys()].map((name) => [name, state.coding(name).activations]);
  writeSafetensors(path, entries, { [activationsKey]: JSON.stringify(Object.fromEntries(activations)) });
}

/** Reads what {@link saveStage} wrote. @throws UsmLiteError BAD_CHECKPOINT */
export function restoreStage(path: string, state: CompressionState, buffers: ReadonlyMap<string, Tensor>, plan: CompressionPlan): void {
  using file = readSafetensors(path);
  for (const [name, weight] of [...state.parameters, ...buffers]) {
    if (file.shape(`weight.${name}`).join() !== weight.shape.join()) {
      throw new UsmLiteError(
        "BAD_CHECKPOINT",
        `${path}: tensor "weight.${name}" has another shape than the model's; delete the folder of the run`,
      );
    }
    weight.write(file.values(`weight.${name}`));
  }
  const about = { source: path, code: "BAD_CHECKPOINT", hint: "delete the folder of the run" } as const;
  const activations = checkedValue(
    activationsSchema,
    parseJsonObject(file.metadata[activationsKey] ?? "{}", `"${activationsKey}" of ${path}`, "BAD_CHECKPOINT"),
    about,
  );
  state.forgetCodings(); // of the stage before; what this one dropped is not in the file
  tidy(() => {
    for (const [name, spec] of plan) {
      const tensors = parts.filter((part) => file.has(`${part}.${name}`)).map((part) => [part, readPart(file, part, name)] as const);
      const coding = activations[name];
      state.update(name, { spec, ...Object.fromEntries(tensors), ...(coding ? { activations: coding } : {}) });
    }
  });
}

function readPart(file: ReturnType<typeof readSafetensors>, part: (typeof parts)[number], name: string): Tensor {
  const key = `${part}.${name}`;
  return part === "mask" ? Tensor.from(file.bytes(key), file.shape(key), "uint8") : Tensor.from(file.values(key), file.shape(key));
}

const chosenFile = (run: string): string => join(run, "chosen_specs.json");

const chosenSchema = z.record(z.string(), z.record(z.string(), z.string()));

type ChosenSpecs = z.infer<typeof chosenSchema>;

/** By stage and weight name. */
function readChosen(run: string): ChosenSpecs {
  const source = chosenFile(run);
  if (!existsSync(source)) return {};
  return checkedValue(chosenSchema, readJsonFile(source, "BAD_CONFIG"), {
    source,
    code: "BAD_CONFIG",
    hint: "delete the folder of the run",
  });
}

/** Specs that modifiers of the run have chosen in view of speech, by weight name; those of later modifiers count. */
export function chosenSpecs(run: string): CompressionPlan {
  return new Map(
    Object.values(readChosen(run)).flatMap((specs) => Object.entries(specs).map(([name, text]) => [name, parseWeightSpec(text)] as const)),
  );
}

/** Adds to {@link chosenSpecs}. */
export function chooseSpecs(run: string, stage: string, plan: CompressionPlan): void {
  const { [stage]: before, ...others } = readChosen(run);
  writeJsonFile(chosenFile(run), {
    ...others,
    [stage]: { ...before, ...Object.fromEntries([...plan].map(([name, { text }]) => [name, text])) },
  });
}

/** Takes from {@link chosenSpecs} what a stage has chosen. */
export function forgetSpecs(run: string, stage: string): void {
  const { [stage]: chosen, ...others } = readChosen(run);
  if (chosen) writeJsonFile(chosenFile(run), others);
}
