/**
 * Where the error of a compressed model comes from: the mask or the quantizer, in the weights, in the outputs of layers, and in
 * words. Every row compresses the same float model in one shot, without training; calibration speech is training speech.
 *
 * usage: node dist/bench/error_budget.js --model FLOAT --train TRAIN.jsonl --test TEST.jsonl [--json FILE]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { writeJsonFile } from "../lib/checkpoint/json_file.js";
import { effectiveWeight, observeInputs } from "../lib/compress/calibration.js";
import { CompressionState, type LayerState } from "../lib/compress/compression_state.js";
import { calibrationBatches, trainableSpeech } from "../lib/compress/fine_tuning.js";
import { shuffled } from "../lib/data/batching.js";
import { readManifest } from "../lib/data/manifest.js";
import { readUtterance } from "../lib/data/utterance_audio.js";
import { loadModel } from "../lib/models/model_folder.js";
import { meanSquares, type InputMoments, type LayerInputs } from "../lib/oneshot/input_moments.js";
import { lowRankBytes, lowRankFactors, rankWithin } from "../lib/oneshot/low_rank.js";
import { compressionError } from "../lib/oneshot/output_error.js";
import { searchScales } from "../lib/oneshot/scale_search.js";
import { gptq, sparseGpt } from "../lib/oneshot/second_order_rounding.js";
import { wandaMask } from "../lib/oneshot/wanda.js";
import { matmul } from "../lib/ops/matmul.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { weightMatrixShape, weightOfMatrix } from "../lib/quant/weight_matrix.js";
import { packedBytes, parseWeightSpec, type Sparsity } from "../lib/quant/weight_spec.js";
import { magnitudeMask } from "../lib/sparse/mask.js";
import { tidy } from "../lib/tensor/scope.js";
import type { Tensor } from "../lib/tensor/tensor.js";
import { relativeChange, wordErrorRate, type ErrorRate } from "../lib/text/word_error_rate.js";
import { Recognizer } from "../lib/transcribe/recognizer.js";

interface Options {
  model: string;
  train: string;
  test: string;
  utterances: number;
  testUtterances: number;
  dataset?: string;
  seed: number;
  json?: string;
}

const options = new Command()
  .requiredOption("--model <folder>", "float model")
  .requiredOption("--train <manifest>", "speech for calibration")
  .requiredOption("--test <manifest>")
  .option("--utterances <count>", "of calibration", Number, 256)
  .option("--test-utterances <count>", "drawn from the test manifest", Number, 600)
  .option("--dataset <name>", "of the test manifest, those of this dataset alone")
  .option("--seed <number>", "draws both", Number, 1)
  .option("--json <file>", "also write the rows here")
  .parse()
  .opts<Options>();

/** One way of compressing a layer. `error` is what the row is about. */
interface Method {
  readonly error: "none" | "mask" | "quantizer" | "both" | "rank";
  readonly spec: string;
  readonly name: string;
  /** The weight that is multiplied by afterwards; tensors belong to the caller's scope. */
  compress(weight: Tensor, inputs: LayerInputs): Tensor;
  /** Absent: what the spec takes. */
  bytes?(rows: number, columns: number): number;
}

const state = (weight: Tensor, spec: string, coding: Partial<LayerState>): LayerState => ({
  weight,
  spec: parseWeightSpec(spec),
  ...coding,
});
const sparsityOf = (spec: string): Sparsity => parseWeightSpec(spec).sparsity as Sparsity;

/** The format's own scale, the mask by magnitude: USM-Lite before any training. */
const nearest = (error: Method["error"], spec: string): Method => ({
  error,
  spec,
  name: error === "mask" ? "magnitude" : error === "quantizer" ? "nearest, largest weight" : "magnitude, nearest",
  compress: (weight) => effectiveWeight(state(weight, spec, {})),
});

const clipped = (error: Method["error"], spec: string): Method => ({
  error,
  spec,
  name: error === "both" ? "magnitude, searched scale" : "nearest, searched scale",
  compress: (weight, inputs) => {
    const { sparsity } = parseWeightSpec(spec);
    const mask = sparsity && magnitudeMask(weight, sparsity.kept, sparsity.of);
    return effectiveWeight(
      state(weight, spec, { ...(mask ? { mask } : {}), ...searchScales(weight, spec, { mask, importance: meanSquares(inputs) }) }),
    );
  },
});

const wanda = (error: Method["error"], spec: string): Method => ({
  error,
  spec,
  name: error === "both" ? "Wanda, searched scale" : "Wanda",
  compress: (weight, inputs) => {
    const mask = wandaMask(weight, sparsityOf(spec), inputs);
    const scales = parseWeightSpec(spec).bits < 32 ? searchScales(weight, spec, { mask, importance: meanSquares(inputs) }) : {};
    return effectiveWeight(state(weight, spec, { mask, ...scales }));
  },
});

const solved = (error: Method["error"], spec: string): Method => ({
  error,
  spec,
  name: parseWeightSpec(spec).sparsity ? "SparseGPT" : "GPTQ",
  compress: (weight, inputs) =>
    effectiveWeight(state(weight, spec, (parseWeightSpec(spec).sparsity ? sparseGpt : gptq)(weight, spec, inputs))),
});

/** As many bytes as int4+2:4 takes. */
const lowRank: Method = {
  error: "rank",
  spec: "int8 factors",
  name: "low rank of outputs",
  compress: (weight, inputs) => {
    const [rows, columns] = weightMatrixShape(weight.shape);
    const { left, right } = lowRankFactors(weight, rankOf(rows, columns), inputs);
    return weightOfMatrix(matmul(effectiveWeight(state(left, "int8", {})), effectiveWeight(state(right, "int8", {}))), weight.shape);
  },
  bytes: (rows, columns) => lowRankBytes(rankOf(rows, columns), rows, columns, "int8"),
};
const rankOf = (rows: number, columns: number): number =>
  Math.max(1, rankWithin(bytesOf("int4+2:4", rows, columns), rows, columns, "int8"));

function bytesOf(spec: string, rows: number, columns: number): number {
  const { codes, scales, mask } = packedBytes(spec, rows, columns);
  return codes + scales + mask;
}

const methods: readonly Method[] = [
  { error: "none", spec: "float32", name: "", compress: (weight) => weight },
  nearest("mask", "2:4"),
  wanda("mask", "2:4"),
  solved("mask", "2:4"),
  nearest("quantizer", "int4"),
  clipped("quantizer", "int4"),
  solved("quantizer", "int4"),
  nearest("both", "int4+2:4"),
  clipped("both", "int4+2:4"),
  wanda("both", "int4+2:4"),
  solved("both", "int4+2:4"),
  nearest("quantizer", "int3"),
  clipped("quantizer", "int3"),
  solved("quantizer", "int3"),
  nearest("quantizer", "int2"),
  clipped("quantizer", "uint2/g64"),
  solved("quantizer", "uint2/g64"),
  nearest("mask", "1:4"),
  solved("mask", "1:4"),
  lowRank,
];

const model = loadModel(options.model);
const speech = trainableSpeech(model, options.train);
const { network } = speech;
const layers = model.network.blockWeights();
const weights = new CompressionState(model.network.parameters());
const originals = new Map(layers.map((name) => [name, weights.layer(name).weight.clone()]));
const inputs = await calibrate();
const test = shuffled(
  readManifest(options.test).filter(({ dataset }) => options.dataset === undefined || dataset === options.dataset),
  new RandomStream(options.seed),
)
  .slice(0, options.testUtterances)
  .sort((a, b) => a.duration - b.duration);
const audio = await Promise.all(test.map((utterance) => readUtterance(utterance, 16_000)));
const recognizer = new Recognizer(model, { decoder: "greedy" });

const rows = methods.map((method) => {
  const started = performance.now();
  const errors = layers.map((name) => compressLayer(name, method));
  network.weightsChanged?.();
  const words = transcribe();
  console.error(`${method.spec} ${method.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  const mean = (key: "weight" | "output"): number => errors.reduce((sum, one) => sum + one[key], 0) / errors.length;
  const total = (key: "bytes" | "weights"): number => errors.reduce((sum, one) => sum + one[key], 0);
  return {
    error: method.error,
    spec: method.spec,
    method: method.name,
    bitsPerWeight: (8 * total("bytes")) / total("weights"),
    weightError: mean("weight"),
    outputError: mean("output"),
    words,
  };
});
const float = (rows[0] as (typeof rows)[number]).words;
const records = rows.map(({ words, ...row }) => ({
  ...row,
  wer: words.rate,
  werInterval: words.interval,
  ...(words === float ? {} : { change: relativeChange(float, words) }),
}));
const { utterances, testUtterances, dataset, seed } = options;
const result = {
  settings: {
    utterances,
    testUtterances,
    ...(dataset === undefined ? {} : { dataset }),
    seed,
    words: float.referenceLength,
    decoder: "greedy",
  },
  rows: records,
};
if (options.json) writeJsonFile(options.json, result);
process.stdout.write(`${JSON.stringify(result)}\n\n${markdown()}`);
inputs.dispose();

async function calibrate(): Promise<InputMoments> {
  const cache = mkdtempSync(join(tmpdir(), "usm-lite-error-budget-"));
  try {
    const batches = await calibrationBatches(speech, { utterances: options.utterances, seed: options.seed }, cache);
    return observeInputs({ model: network, state: weights }, layers, batches, new Set(layers));
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
}

/** Puts the compressed weight into the network and returns its errors and size. */
function compressLayer(name: string, method: Method): { weight: number; output: number; bytes: number; weights: number } {
  return tidy(() => {
    const original = originals.get(name) as Tensor;
    const compressed = method.compress(original, inputs.of(name));
    const [rows, columns] = weightMatrixShape(original.shape);
    weights.layer(name).weight.write(compressed.toArray());
    const bytes = method.bytes?.(rows, columns) ?? (method.spec === "float32" ? 4 * rows * columns : bytesOf(method.spec, rows, columns));
    return { ...compressionError(original, compressed, inputs.of(name)), bytes, weights: rows * columns };
  });
}

function transcribe(): ErrorRate {
  const hypotheses: string[] = [];
  for (let first = 0; first < audio.length; first += 16) {
    for (const { text } of recognizer.transcribeBatch(audio.slice(first, first + 16))) hypotheses.push(text);
  }
  return wordErrorRate(test.map(({ text }, index) => ({ reference: text, hypothesis: hypotheses[index] ?? "" })));
}

function markdown(): string {
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  const signed = (value: number): string => `${value >= 0 ? "+" : ""}${percent(value)}`;
  const header = [
    "error of",
    "spec",
    "method",
    "bits per weight",
    "weights",
    "outputs",
    "WER (95 % interval)",
    "relative change (95 % interval)",
  ];
  const lines = records.map((row) => [
    row.error === "none" ? "" : row.error,
    row.spec,
    row.method,
    row.bitsPerWeight.toFixed(2),
    row.weightError.toFixed(4),
    row.outputError.toFixed(5),
    `${percent(row.wer)} (${row.werInterval.map(percent).join(" to ")})`,
    "change" in row && row.change ? `${signed(row.change.relativeChange)} (${row.change.interval.map(signed).join(" to ")})` : "",
  ]);
  return [header, header.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
