/** language_model.json: how much the language model of a model folder counts beside the acoustic model. */
import { existsSync } from "node:fs";
import { z } from "zod";
import { checkedValue } from "../checkpoint/checked_value.js";
import { readJsonFile, writeJsonFile } from "../checkpoint/json_file.js";
import type { LanguageModelWeights } from "../decode/language_model_scorer.js";

const schema = z.strictObject({
  alpha: z.number().min(0).max(10),
  beta: z.number().min(-100).max(100),
  blankPenalty: z.number().min(0).max(100).default(0),
});

/** Undefined when there is no such file. @throws UsmLiteError BAD_CONFIG naming file and key */
export function readLanguageModelWeights(path: string): LanguageModelWeights | undefined {
  if (!existsSync(path)) return undefined;
  return checkedValue(schema, readJsonFile(path, "BAD_CONFIG"), { source: path, code: "BAD_CONFIG" });
}

/** @throws UsmLiteError FILE_UNWRITABLE */
export function writeLanguageModelWeights(path: string, { alpha, beta, blankPenalty }: Required<LanguageModelWeights>): void {
  writeJsonFile(path, { alpha, beta, blankPenalty });
}
