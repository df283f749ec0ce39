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
import { parseRecipe } from "../lib/compress/recipe.js";
import { measureModel } from "../lib/compress/size_report.js";
import { readManifest } from "../lib/data/manifest.js";
import { loadModel } from "../lib/models/model_folder.js";
import { relativeChange, wordErrorRate, type ErrorRate } from "../lib/text/word_error_rate.js";
import { evaluate } from "../lib/transcribe/evaluation.js";
import { Recognizer } from "../lib/transcribe/recognizer.js";

const specs = ["float32", "int8", "int4", "int3", "int2", "2:4", "1:4", "int4+2:4", "int2+2:4", "int4+1:4"];
const decoders = ["greedy", "beam"] as const;

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
  results: { decoder: string; wer: number; interval: readonly [number, number]; rtfx: number; hypotheses: string[] }[];
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
const rows: Row[] = [];
for (const spec of options.only ?? specs) {
  const name = spec.replaceAll(":", "_");
  const path = join(options.out, `${name}.json`);
  if (!existsSync(path)) writeJsonFile(path, await measureSpec(spec, join(options.out, name)));
  rows.push(readJsonFile(path, "BAD_CONFIG") as unknown as Row);
  writeTextFile(join(options.out, "table.md"), table(rows));
  writeJsonFile(join(options.out, "table.json"), { options: { ...options }, rows: rows.map(summary) });
}
process.stdout.write(table(rows));

async function measureSpec(spec: string, folder: string): Promise<Row> {
  const seed = 1;
  const source = `the recipe of ${spec}`;
  const recipe = parseRecipe(
    JSON.stringify({
      spec,
      layers: subsamplingLayers(spec),
      mask: { schedule: "few-shot", start: 0, shots: 4, interval: Math.max(1, Math.floor(options.steps / 10)) },
      fineTuning: {
        steps: options.steps,
        learningRate: options.learningRate,
        batchSeconds: options.batchSeconds,
        seed,
        ...(options.features ? { features: options.features } : {}),
      },
    }),
    source,
  );
  if (!existsSync(folder)) {
    const completed = await compressModel({
      model: options.model,
      recipe,
      recipeSource: source,
      manifest: options.train,
      out: folder,
      onStatus: (sentence) => console.error(`${spec}: ${sentence}`),
    });
    if (!completed) process.exit(1);
  }
  const size = measureModel(folder);
  const model = loadModel(folder);
  const results: Row["results"] = [];
  for (const decoder of decoders) {
    if (decoder === "beam" && !model.languageModel) continue;
    const evaluation = await evaluate(new Recognizer(model, { decoder }), utterances);
    results.push({
      decoder,
      wer: evaluation.wer,
      interval: evaluation.werInterval,
      rtfx: evaluation.rtfx,
      hypotheses: evaluation.transcripts.map(({ hypothesis }) => hypothesis),
    });
  }
  return {
    spec,
    steps: options.steps,
    seed,
    bitsPerWeight: size.linear.bitsPerWeight,
    percentOfFloat32: size.linear.percentOfFloat32,
    filePercentOfFloat32: size.file.percentOfFloat32,
    fileBytes: size.file.bytes,
    results,
  };
}

/** A row without its transcripts, with the rates that the table shows. */
function summary(row: Row): Record<string, unknown> {
  const results = row.results.map(({ decoder, rtfx }) => {
    const { rate, interval } = rateOf(row, decoder) as ErrorRate;
    return { decoder, rtfx, wer: rate, interval };
  });
  return { ...row, results };
}

/** Word errors over the utterances that count. */
function rateOf(row: Row, decoder: string): ErrorRate | undefined {
  const result = row.results.find((one) => one.decoder === decoder);
  const pairs = utterances.map(({ text }, index) => ({ reference: text, hypothesis: result?.hypotheses[index] ?? "" }));
  return result && wordErrorRate(pairs.filter((_, index) => counted[index]));
}

/** The layers before the blocks, a fourteenth of the weights, are more sensitive: dense, and not below four bits. */
function subsamplingLayers(spec: string): { pattern: string; spec: string }[] {
  const codes = spec.split("+")[0] as string;
  if (!codes.startsWith("int")) return [];
  const own = codes === "int8" ? "int8" : "int4";
  return ["conv_*", "dense_1"].map((layer) => ({ pattern: `encoder.subsampler.${layer}`, spec: own }));
}

function table(done: readonly Row[]): string {
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  const signed = (value: number): string => `${value >= 0 ? "+" : ""}${percent(value)}`;
  const decoder = done.every(({ results }) => results.some((one) => one.decoder === "beam")) ? "beam" : "greedy";
  const baseline = done.find(({ spec }) => spec === "float32");
  const lines = done.map((row) => {
    const rate = rateOf(row, decoder) as ErrorRate;
    const reference = baseline && row !== baseline ? rateOf(baseline, decoder) : undefined;
    const change = reference && relativeChange(reference, rate);
    return [
      row.spec,
      row.bitsPerWeight.toFixed(2),
      percent(row.percentOfFloat32 / 100),
      percent(row.filePercentOfFloat32 / 100),
      percent((rateOf(row, "greedy") as ErrorRate).rate),
      `${percent(rate.rate)} (${rate.interval.map(percent).join(" to ")})`,
      change ? `${signed(change.relativeChange)} (${change.interval.map(signed).join(" to ")})` : "",
    ];
  });
  const header = ["spec", "bits per weight", "of float32, weights", "of float32, file", "WER, greedy", `WER, ${decoder} (95 % interval)`, "relative change (95 % interval)"];
  return [header, header.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
