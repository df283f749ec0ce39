/** One row of a quality table: the float model compressed by a recipe, its size, and what it makes of the test speech. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile, writeJsonFile } from "../../lib/checkpoint/json_file.js";
import { compressModel } from "../../lib/compress/compress_model.js";
import { featureCacheOf } from "../../lib/compress/fine_tuning.js";
import { parseRecipe } from "../../lib/compress/recipe.js";
import { measureModel } from "../../lib/compress/size_report.js";
import type { Features } from "../../lib/data/feature_cache.js";
import type { Utterance } from "../../lib/data/manifest.js";
import { ctcBeamSearch } from "../../lib/decode/ctc_beam_search.js";
import { ctcGreedy } from "../../lib/decode/ctc_greedy.js";
import type { LogProbabilities } from "../../lib/decode/hypothesis.js";
import { LanguageModelScorer } from "../../lib/decode/language_model_scorer.js";
import { loadModel, type SpeechModel } from "../../lib/models/model_folder.js";
import type { CtcNetwork } from "../../lib/models/speech_network.js";
import { logSoftmax } from "../../lib/ops/softmax.js";
import { tidy } from "../../lib/tensor/scope.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import type { Tokenizer } from "../../lib/text/tokenizer.js";
import type { Budget, RowDefinition } from "./row_recipes.js";

export interface MeasuredRow {
  readonly name: string;
  readonly label: string;
  readonly method: string;
  readonly seed: number;
  /** Of fine-tuned rows. */
  readonly steps?: number;
  readonly bitsPerWeight: number;
  readonly percentOfFloat32: number;
  readonly filePercentOfFloat32: number;
  readonly fileBytes: number;
  /** The texts of all test utterances. */
  readonly greedy: readonly string[];
  readonly beam: readonly string[];
}

export interface RowOptions {
  /** Float model. */
  readonly model: string;
  readonly train: string;
  readonly test: readonly Utterance[];
  /** Folder of their features, which all rows share. */
  readonly testFeatures: string;
  /** Folder of finished rows: one that is there is not measured again. */
  readonly out: string;
  readonly budget: Budget;
  /** Nothing is measured: rows that are not there are undefined. */
  readonly finished: boolean;
}

/** Undefined when fine-tuning was stopped by a signal, or the row is not there and only finished ones are asked for. */
export async function measuredRow(row: RowDefinition, options: RowOptions): Promise<MeasuredRow | undefined> {
  const file = `${row.name}-seed${options.budget.seed}`.replaceAll(/[^\w+.-]+/g, "_");
  const path = join(options.out, `${file}.json`);
  if (!existsSync(path)) {
    if (options.finished) return undefined;
    const measured = await measure(row, join(options.out, file), options);
    if (!measured) return undefined;
    writeJsonFile(path, measured);
  }
  return readJsonFile(path, "BAD_CONFIG") as unknown as MeasuredRow;
}

async function measure(
  { name, label, method, recipe }: RowDefinition,
  folder: string,
  { model, train, test, testFeatures, budget }: RowOptions,
): Promise<MeasuredRow | undefined> {
  if (recipe && !existsSync(folder)) {
    const completed = await compressModel({
      model,
      recipe: parseRecipe(JSON.stringify(recipe(budget)), `the recipe of ${name}`),
      manifest: train,
      out: folder,
      onStatus: (sentence) => console.error(`${name}: ${sentence}`),
    });
    if (!completed) return undefined;
  }
  const measured = recipe ? folder : model;
  const { linear, file } = measureModel(measured);
  return {
    name,
    label,
    method,
    seed: budget.seed,
    ...(method === "fine-tuned" ? { steps: budget.steps } : {}),
    bitsPerWeight: linear.bitsPerWeight,
    percentOfFloat32: linear.percentOfFloat32,
    filePercentOfFloat32: file.percentOfFloat32,
    fileBytes: file.bytes,
    ...(await transcribeAll(loadModel(measured), test, testFeatures)),
  };
}

/** The texts that each decoder gives for every test utterance. */
async function transcribeAll(
  model: SpeechModel,
  test: readonly Utterance[],
  featureFolder: string,
): Promise<{ greedy: string[]; beam: string[] }> {
  const cache = featureCacheOf(model, featureFolder);
  await cache.prepare(test, [1]);
  const tokenizer = model.tokenizer as Tokenizer;
  const { languageModel, languageModelWeights, secondsPerFrame } = model;
  const { blankPenalty = 0 } = languageModelWeights ?? {};
  const scorers = languageModel ? [new LanguageModelScorer(languageModel, tokenizer, languageModelWeights)] : [];
  const texts: { greedy: string[]; beam: string[] } = { greedy: [], beam: [] };
  for (const utterance of test) {
    const logProbabilities = score(model.network as CtcNetwork, cache.read(utterance, 1));
    texts.greedy.push(ctcGreedy(logProbabilities, tokenizer, { secondsPerFrame }).text);
    texts.beam.push(ctcBeamSearch(logProbabilities, tokenizer, { secondsPerFrame }, { scorers, blankPenalty })[0]?.text ?? "");
  }
  model.network.dispose();
  return texts;
}

function score(network: CtcNetwork, { values, frames, bins }: Features): LogProbabilities {
  return tidy(() => {
    const { logits, offsets } = network.forward(Tensor.from(values, [frames, bins]), new SequenceOffsets([frames]));
    return { values: logSoftmax(logits).toArray(), frames: offsets.frames, tokens: network.vocabularySize };
  });
}
