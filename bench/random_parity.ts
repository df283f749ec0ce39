/**
 * Random small configurations of a family beside transformers: random weights, stored in float32 or half precision, and batches with
 * padding (docs/parity.md). Each must agree in encoder output, logits and tokens, or be refused by one error that names the key.
 *
 * usage: USMLITE_PYTHON=PYTHON node dist/bench/random_parity.js FAMILY [COUNT [FIRST_SEED [FOLDER]]]
 * Prints a line for each configuration that neither agrees nor is refused, and a summary; a folder that is named keeps the models, and
 * those that lie there are not made again.
 */
import "../lib/cli/one_line_failures.js";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tensor } from "../lib/index.js";
import { readSafetensors, type SafetensorsFile } from "../lib/checkpoint/safetensors.js";
import type { SafetensorsEntry } from "../lib/checkpoint/safetensors_writer.js";
import type { WrittenSequence } from "../lib/decode/sequence_beam.js";
import { writeSequences } from "../lib/decode/sequence_search.js";
import { timesAllowed } from "../lib/decode/timestamp_rules.js";
import { UsmLiteError } from "../lib/errors.js";
import { families } from "../lib/models/families.js";
import { loadModel, type SpeechModel } from "../lib/models/model_folder.js";
import { paddedForward, readPaddedBatch } from "../lib/models/padded_forward.js";
import type { SequenceGeneration } from "../lib/models/sequence_generation.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { availableInstructionSets, setInstructionSet } from "../lib/native/runtime.js";
import { chooseTokens, ExcludedTokens, type AllowedTokens, type TokenChoice } from "../lib/ops/token_choice.js";
import { tidy } from "../lib/tensor/scope.js";
import { packageRoot } from "./package_root.js";

/** Largest difference over all values, relative to the largest value. */
const tolerance = 1e-4;
/** Scores this close, relative to the largest, may change places. */
const tie = 1e-5;

interface Outcome {
  readonly errors: Readonly<Record<string, number>>;
  /** Tokens compared. */
  readonly tokens: number;
}

const [family = "", count = "100", first = "1", kept] = process.argv.slice(2);
if (!Object.hasOwn(families, family) || !(Number(count) > 0) || !(Number(first) >= 0)) {
  const names = Object.keys(families).join(", ");
  throw new UsmLiteError("INVALID_ARGUMENT", `usage: random_parity.js FAMILY [COUNT [FIRST_SEED [FOLDER]]]; families are ${names}`);
}
const folder = kept ?? mkdtempSync(join(tmpdir(), "usm-lite-parity-"));
try {
  const script = join(packageRoot, "bench", "peers", "random_models.py");
  const python = process.env["USMLITE_PYTHON"] ?? "python3";
  execFileSync(python, [script, family, first, count, folder], { stdio: ["ignore", "inherit", "inherit"] });
  run(Array.from({ length: Number(count) }, (_, index) => join(folder, `${family}-${Number(first) + index}`)));
} finally {
  if (!kept) rmSync(folder, { recursive: true, force: true });
}

function run(folders: readonly string[]): void {
  const worst: Record<string, number> = {};
  const refused = new Map<string, number>();
  let [agreed, failed, tokens] = [0, 0, 0];
  for (const [index, model] of folders.entries()) {
    if (!existsSync(model)) continue;
    const sets = availableInstructionSets();
    setInstructionSet(sets[index % sets.length] as (typeof sets)[number]);
    try {
      const outcome = tidy(() => compare(model));
      for (const [name, error] of Object.entries(outcome.errors)) worst[name] = Math.max(worst[name] ?? 0, error);
      tokens += outcome.tokens;
      agreed++;
    } catch (error) {
      const key =
        error instanceof UsmLiteError && ["BAD_CONFIG", "UNSUPPORTED_MODEL"].includes(error.code) && /key "([^"]+)"/.exec(error.message);
      if (key) refused.set(key[1] as string, (refused.get(key[1] as string) ?? 0) + 1);
      else {
        failed++;
        console.log(
          `${model}: ${error instanceof UsmLiteError ? error.code : ""} ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }
  }
  const errors = Object.entries(worst).map(([name, error]) => `${name} ${error.toExponential(1)}`);
  if (failed > 0) process.exitCode = 1;
  const keys = [...refused].map(([key, times]) => `${key} ${times}`);
  console.log(
    `${family}: ${agreed} agree (${errors.join(", ")}; ${tokens} tokens), refused: ${keys.join(", ") || "none"}, failed: ${failed}`,
  );
}

/** @throws Error saying what differs */
function compare(path: string): Outcome {
  const model = loadModel(path);
  try {
    using expected = readSafetensors(join(path, "expected.safetensors"));
    const ours = new Map(paddedForward(model.network, expected, model.frontEnd.config));
    const lengths = [...expected.values("lengths")].map(Number);
    const errors: Record<string, number> = {};
    for (const name of ["encoder_last_hidden_state", "logits"]) {
      if (!expected.has(name)) continue;
      const counts =
        name === "logits" && expected.has("decoder_input_ids") ? lengths.map(() => expected.shape(name)[1] as number) : lengths;
      errors[name] = relativeError(name, valuesOf(ours.get(name) as SafetensorsEntry), expected, counts);
      if (!((errors[name] as number) < tolerance)) throw new Error(`${name}: relative error ${errors[name]}`);
    }
    const tokens = expected.has("tokens") ? compareSteps(ours.get("tokens") as SafetensorsEntry, expected) : 0;
    const written = expected.has("generated") ? compareTexts(model, expected) : 0;
    return { errors, tokens: tokens + written };
  } finally {
    model.network.dispose();
  }
}

function valuesOf(entry: SafetensorsEntry): { shape: readonly number[]; data: ArrayLike<number | bigint> } {
  return entry instanceof Tensor ? { shape: entry.shape, data: entry.toArray() } : { shape: entry.shape, data: entry.data as Float32Array };
}

/** Over rows that are no padding; shapes (items, rows, width). */
function relativeError(
  name: string,
  { shape, data }: ReturnType<typeof valuesOf>,
  expected: SafetensorsFile,
  lengths: readonly number[],
): number {
  const [items = 0, rows = 0, width = 0] = shape;
  const [theirItems, theirRows = 0, theirWidth] = expected.shape(name);
  const most = Math.max(...lengths);
  if (items !== theirItems || width !== theirWidth || rows < most || theirRows < most)
    throw new Error(`${name}: shape (${shape.join(", ")}), not (${expected.shape(name).join(", ")}) with rows ${lengths.join(", ")}`);
  const theirs = expected.values(name);
  let [largest, difference] = [0, 0];
  lengths.forEach((length, item) => {
    for (let i = 0; i < length * width; i++) {
      const value = Number(theirs[item * theirRows * width + i]);
      const error = Math.abs(Number(data[item * rows * width + i]) - value);
      largest = Math.max(largest, Math.abs(value));
      if (!(error <= difference)) difference = error;
    }
  });
  return difference / largest;
}

/** Steps of greedy transducer decoding, as many as transformers gives. */
function compareSteps(entry: SafetensorsEntry, expected: SafetensorsFile): number {
  const { shape, data } = valuesOf(entry);
  const counts = [...expected.values("steps")].map(Number);
  const [, theirWidth = 0] = expected.shape("tokens");
  const theirs = expected.values("tokens");
  counts.forEach((count, item) => {
    for (let step = 0; step < count; step++) {
      const wanted = Number(theirs[item * theirWidth + step]);
      const got = Number(data[item * (shape[1] as number) + step]);
      if (wanted !== got || step >= (shape[1] as number))
        throw new Error(`item ${item}: step ${step} of ${count} is token ${got}, not ${wanted}`);
    }
  });
  return counts.reduce((sum, number) => sum + number, 0);
}

/** Texts written greedily from a prompt; those of Whisper without times and with them. */
function compareTexts({ network }: SpeechModel, expected: SafetensorsFile): number {
  const writer = network as SequenceToSequenceNetwork;
  const { features, offsets } = readPaddedBatch(writer, expected);
  using memory = writer.remember(writer.encode(features, offsets));
  const { generation } = writer;
  let compared = 0;
  for (const name of ["generated", "generated_with_times"].filter((each) => expected.has(each))) {
    const withTimes = name === "generated_with_times";
    const { noTimestampsId = 0 } = generation;
    const never = withTimes ? [...generation.suppressed, noTimestampsId] : generation.suppressed;
    using excluded = new ExcludedTokens(writer.vocabularySize, [never, [...never, ...generation.suppressedFirst]]);
    let nearest = Infinity;
    let newest: Tensor | undefined;
    using session = writer.session(memory);
    const watched = {
      vocabularySize: writer.vocabularySize,
      scores: (hidden: Tensor) => (newest = writer.scores(hidden)),
    };
    const allowed = (written: readonly number[]): AllowedTokens => {
      const times = withTimes ? timesAllowed(written, { ...generation, noTimestampsId }) : { forbidden: [] };
      const rules = { without: written.length === 0 ? 1 : 0, ...times };
      nearest = Math.min(nearest, margin(newest as Tensor, excluded, rules));
      return rules;
    };
    const prompt = expected.has("prompt") ? [...expected.values("prompt")].map(Number) : whisperPrompt(generation, withTimes);
    const [items = 0, width = 0] = expected.shape(name);
    for (let item = 0; item < items; item++) {
      nearest = Infinity;
      const row = [...expected.values(name).subarray(item * width, (item + 1) * width)].map(Number);
      const { endId } = generation;
      const maximumLength = generation.maximumLength(prompt.length);
      const [{ tokens }] = writeSequences(watched, session, [{ item, prompt, endId, maximumLength }], { excluded, allowed }) as [
        WrittenSequence,
      ];
      const wanted = textOf(row, prompt, endId);
      compared += tokens.length;
      if (tokens.join() === wanted.join() || nearest < tie) continue;
      throw new Error(`${name} ${item}: ${tokens.join()}, not ${wanted.join()}`);
    }
  }
  return compared;
}

function whisperPrompt({ startId, languages, tasks, noTimestampsId }: SequenceGeneration, withTimes: boolean): number[] {
  const spoken = languages.size > 0 ? [languages.get("en") as number, tasks.get("transcribe") as number] : [];
  return [startId, ...spoken, ...(withTimes ? [] : [noTimestampsId as number])];
}

/** What follows the prompt, up to the end. */
function textOf(row: readonly number[], prompt: readonly number[], endId: number): readonly number[] {
  const begin = row.slice(0, prompt.length).join() === prompt.join() ? prompt.length : 0;
  const end = row.indexOf(endId, begin);
  return row.slice(begin, end < 0 ? undefined : end);
}

/** How far the best score of those that may come lies above the next, relative to the largest. */
function margin(scores: Tensor, excluded: ExcludedTokens, allowed: AllowedTokens): number {
  const [best, next] = chooseTokens(scores, excluded, [allowed], 2)[0] as [TokenChoice, TokenChoice | undefined];
  const score = scores.toArray()[best.id] as number;
  return next ? (best.allowedLogProbability - next.allowedLogProbability) / Math.max(1, Math.abs(score)) : Infinity;
}
