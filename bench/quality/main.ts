/**
 * The tables that compare compression methods (docs/results.md): every row compresses the same float model, fine-tuned rows on the same
 * data for the same number of steps, and transcribes the same test speech. Finished rows are kept, so an interrupted run goes on.
 *
 * usage: node dist/bench/quality/main.js --table specs --model FLOAT --train TRAIN.jsonl --test TEST.jsonl --out FOLDER --json FILE
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { writeJsonFile } from "../../lib/checkpoint/json_file.js";
import { readManifest } from "../../lib/data/manifest.js";
import { measuredRow, type MeasuredRow } from "./row.js";
import type { Budget } from "./row_recipes.js";
import { summaryOf, tableText } from "./table_text.js";
import { tables, type QualityTable } from "./tables.js";

interface Options {
  table: string;
  model: string;
  train: string;
  test: string;
  out: string;
  steps: number;
  learningRate: number;
  augment?: boolean;
  batchSeconds: number;
  seeds: number[];
  dataset?: string;
  features?: string;
  testFeatures?: string;
  only?: string[];
  finished?: boolean;
  json?: string;
}

const options = new Command()
  .requiredOption("--table <name>", Object.keys(tables).join(", "))
  .requiredOption("--model <folder>", "float model")
  .requiredOption("--train <manifest>")
  .requiredOption("--test <manifest>")
  .requiredOption("--out <folder>", "keeps finished rows; tables share them")
  .option("--steps <number>", "fine-tuning steps of every row", Number, 300)
  .option("--learning-rate <number>", "peak of fine-tuning by the faithful method", Number, 3e-4)
  .option("--augment", "fine-tune the faithful rows with noise, more masks and averaged weights")
  .option("--batch-seconds <number>", "audio of a fine-tuning step", Number, 16)
  .option("--seeds <numbers>", "comma-separated; a row is measured with each", (text) => text.split(",").map(Number), [1])
  .option("--dataset <name>", "rates over the utterances of this `dataset` of the test manifest alone")
  .option("--features <folder>", "where computed features of the training speech are kept")
  .option("--test-features <folder>", "and those of the test speech; default: test-features in --out")
  .option("--only <row...>", "these rows alone")
  .option("--finished", "measure nothing: the rows and seeds that are there")
  .option("--json <file>", "rates and sizes, for the record")
  .parse()
  .opts<Options>();

const table = tables[options.table] as QualityTable | undefined;
if (!table) {
  console.error(`there is no table "${options.table}"; there are ${Object.keys(tables).join(", ")}`);
  process.exit(2);
}
mkdirSync(options.out, { recursive: true });
const test = readManifest(options.test).filter(({ dataset }) => options.dataset === undefined || dataset === options.dataset);
const references = test.map(({ text }) => text);
const rows: MeasuredRow[] = [];
for (const row of table.rows.filter(({ name }) => !options.only || options.only.includes(name))) {
  for (const seed of row.method === "as it is" ? [1] : options.seeds) {
    const { steps, learningRate, batchSeconds, features, testFeatures = join(options.out, "test-features"), model, train, out } = options;
    const budget: Budget = {
      steps,
      learningRate,
      batchSeconds,
      augment: options.augment ?? false,
      seed,
      ...(features ? { features } : {}),
    };
    const measured = await measuredRow(row, { model, train, test, testFeatures, out, budget, finished: options.finished ?? false });
    if (!measured && options.finished) continue;
    if (!measured) process.exit(1);
    rows.push({ ...measured, label: row.label });
    console.error(`${row.name}, seed ${seed}: done`);
  }
}
const summaries = rows.map((row) => summaryOf(row, rows, table.baseline, references));
process.stdout.write(`### ${table.title}\n\n${tableText(summaries)}`);
if (options.json) {
  const { steps, learningRate, batchSeconds, dataset, seeds } = options;
  writeJsonFile(options.json, {
    table: options.table,
    steps,
    learningRate,
    augment: options.augment ?? false,
    batchSeconds,
    seeds,
    ...(dataset ? { dataset } : {}),
    utterances: test.length,
    rows: summaries,
  });
}
