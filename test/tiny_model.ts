/** A small random Conformer-CTC on disk, and audio to feed it: what tests of loading, compressing and transcribing need. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readJsonFile, writeJsonFile, type JsonObject } from "../lib/checkpoint/json_file.js";
import {
  readSafetensors,
  trainLanguageModel,
  trainTokenizer,
  writeLanguageModel,
  writeSafetensors,
  type SafetensorsEntry,
} from "../lib/operations.js";
import { parseLasrConfig } from "../lib/models/lasr/lasr_config.js";
import { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { sine } from "./audio_signals.js";
import { randomValues } from "./gradient.js";
import { wavFile } from "./wav_writer.js";

/** Transcripts that tokenizer, language model and manifests are made of. */
const tinyTexts = ["THE CAT SAT ON THE MAT", "A DOG ATE THE CAT'S HAT", "THE HAT SAT ON A DOG"];

/** `encoder_config` of the small model: two blocks, 32 wide. */
export const tinyEncoder = {
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
  conv_kernel_size: 7,
  subsampling_conv_channels: 16,
  layerdrop: 0,
  dropout: 0,
  activation_dropout: 0,
  attention_dropout: 0,
} as const;

/** A temporary folder; `clean` removes it, `empty` makes another in it. */
export function temporaryFolder(name: string): { path: string; clean: () => void; empty: () => string } {
  const path = mkdtempSync(join(tmpdir(), `usm-lite-${name}-`));
  return { path, clean: () => rmSync(path, { recursive: true, force: true }), empty: () => mkdtempSync(join(path, "empty-")) };
}

/** Writes a float model folder of random weights with tokenizer and, unless told otherwise, a language model. */
export function writeTinyModel(
  folder: string,
  {
    seed = 1,
    languageModel = true,
    blocks = 2,
    hidden = 32,
  }: { seed?: number; languageModel?: boolean; blocks?: number; hidden?: number } = {},
): string {
  mkdirSync(folder, { recursive: true });
  const tokenizer = trainTokenizer(tinyTexts, 31);
  const config = parseLasrConfig(
    {
      model_type: "lasr_ctc",
      vocab_size: tokenizer.size,
      pad_token_id: tokenizer.blankId,
      encoder_config: { ...tinyEncoder, num_hidden_layers: blocks, hidden_size: hidden },
    },
    "tiny",
  );
  const network = new LasrForCtc(config, new FreshWeights(seed));
  writeJsonFile(join(folder, "config.json"), config);
  writeJsonFile(join(folder, "preprocessor_config.json"), {
    feature_extractor_type: "LasrFeatureExtractor",
    feature_size: 128,
    hop_length: 160,
    n_fft: 512,
    sampling_rate: 16000,
    win_length: 400,
  });
  tokenizer.save(folder);
  if (languageModel) writeLanguageModel(join(folder, "language_model.bin"), trainLanguageModel(tinyTexts));
  writeSafetensors(join(folder, "model.safetensors"), [...network.parameters(), ...network.buffers()], { format: "pt" });
  return folder;
}

/** Rewrites a JSON file of a model folder. */
export function editJson(path: string, edit: (json: JsonObject) => void): void {
  const json = readJsonFile(path, "BAD_CONFIG");
  edit(json);
  writeJsonFile(path, json);
}

/** Rewrites the weights of a model folder; entries keep their bytes unless changed. */
export function editWeights(folder: string, edit: (entries: Map<string, SafetensorsEntry & { data: ArrayBufferView }>) => void): void {
  const path = join(folder, "model.safetensors");
  const entries = new Map<string, SafetensorsEntry & { data: ArrayBufferView }>();
  {
    using file = readSafetensors(path);
    for (const name of file.names())
      entries.set(name, { dtype: file.dtype(name), shape: file.shape(name), data: file.bytes(name) } as never);
  }
  edit(entries);
  writeSafetensors(path, entries);
}

/** Seconds of a melody that differs by `seed`, with some noise, at 16 kHz. */
export function tones(seconds: number, seed: number): Float32Array {
  const samples = Math.round(seconds * 16000);
  const noise = randomValues(samples, seed);
  const melody = sine(200 + 37 * seed, 16000, samples, 0.3);
  const beat = sine(2 + (seed % 3), 16000, samples);
  return noise.map((value, i) => 0.02 * value + (melody[i] as number) * (beat[i] as number));
}

/** Writes a 16 kHz WAV file and returns its path. */
export function writeWav(path: string, samples: Float32Array): string {
  writeFileSync(path, wavFile([samples], { sampleRate: 16000, coding: "s16" }));
  return path;
}

/** Writes clips of one to two seconds and a manifest of them; returns the manifest's path. */
export function writeTinyCorpus(folder: string, utterances: number): string {
  mkdirSync(folder, { recursive: true });
  const lines = Array.from({ length: utterances }, (_, index) => {
    const duration = 1.5 + (index % 3) * 0.5;
    writeWav(join(folder, `clip${index}.wav`), tones(duration, index));
    return JSON.stringify({
      audio_filepath: `clip${index}.wav`,
      duration,
      text: tinyTexts[index % 3],
      dataset: index % 2 ? "odd" : "even",
    });
  });
  const manifest = join(folder, "manifest.jsonl");
  writeFileSync(manifest, lines.join("\n"));
  return manifest;
}
