/**
 * The table of adaptation: word errors of speakers that no model has heard, before and after some of their utterances were
 * learned from. Bases: the float model, the same in nf4/g64 rounded to nearest, and the packed model that was fine-tuned.
 * For each: as it is, with an adapter that training speakers share, with one of the speaker, with both, and with one of the
 * speaker learned without transcripts; pooled and per speaker. With `--minutes` those learn from so many minutes of each speaker.
 * Finished rows are kept, so an interrupted run goes on.
 *
 * usage: node dist/bench/adaptation_table.js --float FLOAT [--packed PACKED] --train TRAIN.jsonl [--held-out HELDOUT.jsonl] \
 *   --test TEST.jsonl --out FOLDER [--dataset ljspeech --minutes 1 3 10 --train-dataset speechocean762]
 */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { adaptSpeaker } from "../lib/adapt/adapt_speaker.js";
import type { Adapter } from "../lib/adapt/adapter.js";
import { AdapterBase } from "../lib/adapt/adapter_base.js";
import { readAdapter, writeAdapter } from "../lib/adapt/adapter_file.js";
import { adaptSpeakers } from "../lib/adapt/shared_adapter.js";
import { writeTextFile } from "../lib/checkpoint/atomic_file.js";
import { readJsonFile, writeJsonFile } from "../lib/checkpoint/json_file.js";
import { weightFiles } from "../lib/checkpoint/sharded_safetensors.js";
import { compressModel } from "../lib/compress/compress_model.js";
import { parseRecipe } from "../lib/compress/recipe.js";
import { readManifest, type Utterance } from "../lib/data/manifest.js";
import { readUtterance } from "../lib/data/utterance_audio.js";
import { defaultModelFolder } from "../lib/models/default_model.js";
import { loadModel, type SpeechModel } from "../lib/models/model_folder.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { Recognizer } from "../lib/transcribe/recognizer.js";
import {
  adapters,
  columnName,
  pooled,
  summary,
  tables,
  together,
  type AdapterKind,
  type Row,
  type SpeakerResult,
} from "./adaptation_rows.js";

interface Options {
  float: string;
  packed: string;
  train: string;
  heldOut?: string;
  test: string;
  out: string;
  with?: string[];
  dataset: string;
  trainDataset?: string;
  speakers: number;
  trainSpeakers: number;
  adaptUtterances: number;
  minutes?: number[];
  testMinutes: number;
  target?: string[];
  epochs?: number;
  seed: number;
  bases?: string[];
  adapters?: AdapterKind[];
}

const options = new Command()
  .requiredOption("--float <folder>", "float model")
  .option("--packed <folder>", "the same model, packed", defaultModelFolder)
  .requiredOption("--train <manifest>", "speech of other speakers, for the shared adapter")
  .option("--held-out <manifest>", "speech to judge the shared adapter by, of speakers that the models were not trained on")
  .requiredOption("--test <manifest>", "speech of speakers that no model has heard")
  .requiredOption("--out <folder>")
  .option("--with <folder...>", "folders of other finished runs, of other speakers, whose rows are pooled with those of this one")
  .option("--dataset <name>", "speakers of this `dataset` alone", "speechocean762")
  .option("--train-dataset <name>", "of the speakers of the shared adapter; default: as --dataset")
  .option("--speakers <count>", "so many test speakers, drawn at random", Number, 20)
  .option("--train-speakers <count>", "so many training speakers for the shared adapter, a minute of each at most", Number, 30)
  .option("--adapt-utterances <count>", "utterances of each speaker to learn from; the others are tested on", Number, 10)
  .option("--minutes <minutes...>", "learn from so many minutes of each speaker instead", (value: string, before: number[] = []) => [
    ...before,
    Number(value),
  ])
  .option(
    "--test-minutes <minutes>",
    "with --minutes: test on so many minutes of each speaker behind the longest of them, at most",
    Number,
    10,
  )
  .option("--target <pattern...>", "layers that the adapters of speakers are of; default as `usm-lite adapt`")
  .option("--epochs <count>", "of the adapters of speakers, at most; default as `usm-lite adapt`", Number)
  .option("--seed <number>", "of the draw and of learning", Number, 1)
  .option("--bases <base...>", "of float32, nf4/g64, int4+2:4: these alone")
  .option("--adapters <adapter...>", `of ${adapters.join(", ")}: these alone`)
  .parse()
  .opts<Options>();

mkdirSync(options.out, { recursive: true });
const speakers = drawn(options.test, options.dataset, options.speakers, 2, (utterances) => tested(utterances).length > 0);
const audio = new Map<Utterance, Float32Array>();
const folders: Record<string, () => Promise<string>> = {
  float32: () => Promise.resolve(options.float),
  "nf4/g64": roundedToNormalFloat,
  "int4+2:4": () => Promise.resolve(options.packed),
};
const rows: Row[] = [];
for (const [base, folder] of Object.entries(folders)) {
  if (options.bases && !options.bases.includes(base)) continue;
  for (const adapter of options.adapters ?? adapters) {
    const learnsSpeaker = adapter !== "none" && adapter !== "shared";
    for (const minutes of (learnsSpeaker && options.minutes) || [undefined]) {
      const file = `${base}-${adapter}${minutes === undefined ? "" : `-${minutes}min`}.json`.replace(/[/:]/g, "_");
      const path = join(options.out, file);
      if (!existsSync(path)) writeJsonFile(path, await measureRow(base, await folder(), adapter, minutes));
      rows.push(
        [path, ...(options.with ?? []).map((other) => join(other, file))]
          .map((one) => readJsonFile(one, "BAD_CONFIG") as unknown as Row)
          .reduce(together),
      );
      writeTextFile(join(options.out, "table.md"), tables(rows));
      const { dataset, adaptUtterances, trainSpeakers, target, epochs, seed } = options;
      const heard = rows[0]?.speakers.length;
      const settings = { dataset, speakers: heard, trainSpeakers, ...(options.minutes ? {} : { adaptUtterances }), target, epochs, seed };
      writeJsonFile(join(options.out, "table.json"), { ...settings, rows: rows.map((row) => summary(row, rows)) });
    }
  }
}
process.stdout.write(tables(rows));

/** Utterances of speakers drawn from a manifest, in an order drawn for each. */
function drawn(
  manifest: string,
  dataset: string,
  count: number,
  key: number,
  fits: (utterances: readonly Utterance[]) => boolean = () => true,
): Utterance[][] {
  const groups = new Map<string, Utterance[]>();
  for (const utterance of readManifest(manifest)) {
    if (utterance.dataset !== dataset || utterance.speaker === undefined) continue;
    groups.set(utterance.speaker, [...(groups.get(utterance.speaker) ?? []), utterance]);
  }
  const random = RandomStream.derived(options.seed, key);
  const shuffled = <Item>(items: readonly Item[]): Item[] =>
    items
      .map((item) => ({ item, place: random.uniform() }))
      .sort((a, b) => a.place - b.place)
      .map(({ item }) => item);
  return shuffled([...groups.values()].filter(fits))
    .slice(0, count)
    .map(shuffled);
}

/** Those of a speaker that adapters learn from. */
function learned(utterances: readonly Utterance[], minutes: number | undefined): readonly Utterance[] {
  return minutes === undefined ? utterances.slice(0, options.adaptUtterances) : firstMinutes(utterances, minutes);
}

/** Those of a speaker that no adapter, whatever its minutes, learns from. */
function tested(utterances: readonly Utterance[]): readonly Utterance[] {
  if (!options.minutes) return utterances.slice(options.adaptUtterances);
  return firstMinutes(utterances.slice(firstMinutes(utterances, Math.max(...options.minutes)).length), options.testMinutes);
}

/** So many that they last for `minutes`, or all. */
function firstMinutes(utterances: readonly Utterance[], minutes: number): readonly Utterance[] {
  let seconds = 0;
  const end = utterances.findIndex(({ duration }) => (seconds += duration) >= 60 * minutes);
  return end < 0 ? utterances : utterances.slice(0, end + 1);
}

async function roundedToNormalFloat(): Promise<string> {
  const out = join(options.out, "nf4");
  // The blocks, and the layers before them.
  const targets = [undefined, ["encoder.subsampler.conv_*", "encoder.subsampler.dense_1"]];
  const modifiers = targets.map((layers) => ({ type: "round-to-nearest", spec: "nf4/g64", ...(layers ? { targets: layers } : {}) }));
  const recipe = parseRecipe(JSON.stringify({ stages: [{ modifiers }] }), "nf4/g64");
  if (!existsSync(out)) await compressModel({ model: options.float, recipe, manifest: undefined, out });
  return out;
}

async function measureRow(base: string, folder: string, kind: AdapterKind, minutes: number | undefined): Promise<Row> {
  const model = loadModel(folder);
  const recognizer = new Recognizer(model);
  const shared = kind === "shared" || kind === "both" ? await sharedAdapter(base, model) : undefined;
  const { target: targets, epochs, seed } = options;
  const settings = { seed, ...(targets ? { targets } : {}), ...(epochs ? { epochs } : {}) };
  const results: SpeakerResult[] = [];
  let [learnedSeconds, trainingSeconds, adapterParameters] = [0, 0, shared?.parameters ?? 0];
  for (const utterances of speakers) {
    const heard = tested(utterances);
    const own =
      kind === "none" || kind === "shared"
        ? undefined
        : await adaptSpeaker(model, learned(utterances, minutes), { shared, unsupervised: kind === "unsupervised", ...settings });
    if (own) {
      learnedSeconds += own.report.seconds;
      trainingSeconds += own.report.trainingSeconds;
      adapterParameters = Math.max(adapterParameters, own.adapter.parameters);
    }
    const samples: Float32Array[] = [];
    for (const utterance of heard) samples.push(await samplesOf(utterance));
    const texts = recognizer.transcribeBatch(samples, undefined, own?.adapter ?? shared);
    results.push({
      speaker: utterances[0]?.speaker as string,
      kept: own?.report.kept ?? kind,
      transcriptions: heard.map(({ text }, index) => ({ reference: text, hypothesis: (texts[index] as { text: string }).text })),
    });
    own?.adapter.dispose();
  }
  shared?.dispose();
  model.network.dispose();
  const row = {
    base,
    adapter: kind,
    ...(minutes === undefined ? {} : { minutes }),
    fileBytes: fileBytes(folder),
    adapterParameters,
    learnedSeconds,
    trainingSeconds,
    speakers: results,
  };
  const { rate } = pooled(row);
  console.error(
    `${columnName(row)} of ${base}: WER ${(100 * rate).toFixed(1)} % of ${results.length} speakers; learned for ${trainingSeconds.toFixed(0)} s from ${learnedSeconds.toFixed(0)} s`,
  );
  return row;
}

async function sharedAdapter(base: string, model: SpeechModel): Promise<Adapter> {
  const folder = join(options.out, `shared-${base}`.replace(/[/:]/g, "_"));
  const adapterBase = new AdapterBase(model);
  if (!existsSync(folder)) {
    const speech = drawn(options.train, options.trainDataset ?? options.dataset, options.trainSpeakers, 3).flat();
    const { adapter, report } = await adaptSpeakers(model, speech, {
      seed: options.seed,
      ...(options.heldOut === undefined ? {} : { heldOut: readManifest(options.heldOut) }),
      onStatus: (sentence) => console.error(`${base}, shared: ${sentence}`),
    });
    writeAdapter(folder, adapter, adapterBase, { dropout: 0, training: JSON.parse(JSON.stringify(report)) as never });
    adapter.dispose();
  }
  return readAdapter(folder, adapterBase);
}

async function samplesOf(utterance: Utterance): Promise<Float32Array> {
  const samples = audio.get(utterance) ?? (await readUtterance(utterance, 16_000));
  audio.set(utterance, samples);
  return samples;
}

/** Of the weights. */
function fileBytes(folder: string): number {
  return weightFiles(folder).reduce((sum, path) => sum + statSync(path).size, 0);
}
