/**
 * The table that compares specs: every spec fine-tunes the same float model on the same data for the same number of
 * steps, is packed, and transcribes the same test speech. Finished rows are kept, so an interrupted run goes on.
 *
 * usage: node dist/bench/compression_table.js --model FLOAT --train TRAIN.jsonl --test TEST.jsonl --out FOLDER --steps N
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { writeTextFile } from "../lib/checkpoint/atomic_file.js";
import { readJsonFile, writeJsonFile } from "../lib/checkpoint/json_file.js";
import { compressModel } from "../lib/compress/compress_model.js";
import { parseRecipe, type Recipe } from "../lib/compress/recipe.js";
import { measureModel } from "../lib/compress/size_report.js";
import { readManifest } from "../lib/data/manifest.js";
import { readUtterance } from "../lib/data/utterance_audio.js";
import { ctcBeamSearch } from "../lib/decode/ctc_beam_search.js";
import { ctcGreedy } from "../lib/decode/ctc_greedy.js";
import type { LogProbabilities } from "../lib/decode/hypothesis.js";
import { LanguageModelScorer } from "../lib/decode/language_model_scorer.js";
import { loadModel, type SpeechModel } from "../lib/models/model_folder.js";
import type { Tokenizer } from "../lib/text/tokenizer.js";
import { relativeChange, wordErrorRate, type ErrorRate } from "../lib/text/word_error_rate.js";
import { parseWeightSpec } from "../lib/quant/weight_spec.js";
import { Recognizer } from "../lib/transcribe/recognizer.js";

const subsamplingLayers = ["encoder.subsampler.conv_*", "encoder.subsampler.dense_1"];
const specs = ["float32", "int8", "int4", "int3", "int2", "2:4", "1:4", "int4+2:4", "int2+2:4", "int4+1:4"];

interface Options {
  model: string;
  train: string;
  test: string;
  out: string;
  steps: number;
  learningRate: number;
  batchSeconds: number;
  dataset?: string;
  features?: string;
  only?: string[];
}

interface Row {
  spec: string;
  steps: number;
  seed: number;
  bitsPerWeight: number;
  percentOfFloat32: number;
  filePercentOfFloat32: number;
  fileBytes: number;
  results: { decoder: string; hypotheses: string[] }[];
}

const options = new Command()
  .requiredOption("--model <folder>", "float model")
  .requiredOption("--train <manifest>")
  .requiredOption("--test <manifest>")
  .requiredOption("--out <folder>")
  .requiredOption("--steps <number>", "fine-tuning steps of every row", Number)
  .option("--learning-rate <number>", "peak of fine-tuning", Number, 3e-4)
  .option("--batch-seconds <number>", "audio of a fine-tuning step", Number, 16)
  .option("--dataset <name>", "rates over the utterances of this `dataset` of the test manifest alone")
  .option("--features <folder>", "where computed features are kept")
  .option("--only <spec...>", "these rows alone")
  .parse()
  .opts<Options>();

mkdirSync(options.out, { recursive: true });
const utterances = readManifest(options.test);
const counted = utterances.map(({ dataset }) => options.dataset === undefined || dataset === options.dataset);
const audio: Float32Array[] = []; // of all test utterances, once they were needed
const rows: Row[] = [];
for (const spec of options.only ?? specs) {
  const name = spec.replaceAll(":", "_");
  const path = join(options.out, `${name}.json`);
  if (!existsSync(path)) writeJsonFile(path, await measureSpec(spec, join(options.out, name)));
  rows.push(readJsonFile(path, "BAD_CONFIG") as unknown as Row);
  writeTextFile(join(options.out, "table.md"), table(rows));
  const { steps, learningRate, batchSeconds, dataset } = options;
  writeJsonFile(join(options.out, "table.json"), { steps, learningRate, batchSeconds, dataset, rows: rows.map(summary) });
}
process.stdout.write(table(rows));

async function measureSpec(spec: string, folder: string): Promise<Row> {
  const seed = 1;
  const recipe = fineTuningRecipe(spec, seed);
  if (!existsSync(folder)) {
    const completed = await compressModel({
      model: options.model,
      recipe,
      manifest: options.train,
      out: folder,
      onStatus: (sentence) => console.error(`${spec}: ${sentence}`),
    });
    if (!completed) process.exit(1);
  }
  const size = measureModel(folder);
  return {
    spec,
    steps: options.steps,
    seed,
    bitsPerWeight: size.linear.bitsPerWeight,
    percentOfFloat32: size.linear.percentOfFloat32,
    filePercentOfFloat32: size.file.percentOfFloat32,
    fileBytes: size.file.bytes,
    results: Object.entries(await transcribeAll(loadModel(folder))).map(([decoder, hypotheses]) => ({ decoder, hypotheses })),
  };
}

/** The texts that each decoder gives for every test utterance. */
async function transcribeAll(model: SpeechModel): Promise<Record<string, string[]>> {
  if (audio.length === 0) for (const utterance of utterances) audio.push(await readUtterance(utterance));
  const recognizer = new Recognizer(model);
  const tokenizer = model.tokenizer as Tokenizer;
  const { languageModel, languageModelWeights, secondsPerFrame } = model;
  const { blankPenalty = 0 } = languageModelWeights ?? {};
  const scorers = languageModel ? [new LanguageModelScorer(languageModel, tokenizer, languageModelWeights)] : [];
  const texts: { greedy: string[]; beam: string[] } = { greedy: [], beam: [] };
  for (const samples of audio) {
    const [logProbabilities] = recognizer.logProbabilities([samples]) as [LogProbabilities];
    texts.greedy.push(ctcGreedy(logProbabilities, tokenizer, { secondsPerFrame }).text);
    texts.beam.push(ctcBeamSearch(logProbabilities, tokenizer, { secondsPerFrame }, { scorers, blankPenalty })[0]?.text ?? "");
  }
  return texts;
}

/** A row without its transcripts, with the rates that the table shows. */
function summary(row: Row): Record<string, unknown> {
  const results = row.results.map(({ decoder }) => {
    const { rate, interval } = rateOf(row, decoder);
    return { decoder, wer: rate, interval };
  });
  return { ...row, results };
}

/** Word errors over the utterances that count. */
function rateOf(row: Row, decoder: string): ErrorRate {
  const result = row.results.find((one) => one.decoder === decoder);
  const pairs = utterances.map(({ text }, index) => ({ reference: text, hypothesis: result?.hypotheses[index] ?? "" }));
  return wordErrorRate(pairs.filter((_, index) => counted[index]));
}

/** Quantization and pruning of the blocks in training, masks computed four times in the first four tenths of it. */
function fineTuningRecipe(spec: string, seed: number): Recipe {
  const { sparsity, format } = parseWeightSpec(spec);
  const modifiers = [
    ...(format === "float32" ? [] : [{ type: "quantization", spec: format }]),
    // The layers before the blocks, a fourteenth of the weights, are more sensitive: dense, and not below four bits.
    ...(format.startsWith("int") ? [{ type: "quantization", targets: subsamplingLayers, spec: format === "int8" ? "int8" : "int4" }] : []),
    ...(sparsity
      ? [{ type: "sparsity", pattern: `${sparsity.kept}:${sparsity.of}`, schedule: "few-shot", shots: 4, interval: Math.max(1, Math.floor(options.steps / 10)) }]
      : []),
  ];
  const { steps, learningRate, batchSeconds, features } = options;
  const training = { steps, learningRate, batchSeconds, seed, ...(features ? { features } : {}) };
  return parseRecipe(JSON.stringify({ stages: [{ name: "fine-tune", modifiers, training }] }), `the recipe of ${spec}`);
}

function table(done: readonly Row[]): string {
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  const signed = (value: number): string => `${value >= 0 ? "+" : ""}${percent(value)}`;
  const baseline = done.find(({ spec }) => spec === "float32");
  const lines = done.map((row) => {
    const rate = rateOf(row, "beam");
    const reference = baseline && row !== baseline ? rateOf(baseline, "beam") : undefined;
    const change = reference && relativeChange(reference, rate);
    return [
      row.spec,
      row.bitsPerWeight.toFixed(2),
      percent(row.percentOfFloat32 / 100),
      percent(row.filePercentOfFloat32 / 100),
      percent(rateOf(row, "greedy").rate),
      `${percent(rate.rate)} (${rate.interval.map(percent).join(" to ")})`,
      change ? `${signed(change.relativeChange)} (${change.interval.map(signed).join(" to ")})` : "",
    ];
  });
  const header = ["spec", "bits per weight", "of float32, weights", "of float32, file", "WER, greedy", "WER, beam search (95 % interval)", "relative change (95 % interval)"];
  return [header, header.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
