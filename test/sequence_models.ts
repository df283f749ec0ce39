/** Folders of tiny random Whisper and cohere_asr models that write letters, and speech for them. */
import { copyFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promptedLetters } from "./family_models.js";
import { writeRandomModel } from "./random_model.js";
import { tones, writeWav } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures");

/** @param positions most tokens that it writes about a window */
export function writeWhisper(path: string, seed = 1, positions = 24): string {
  const config = {
    model_type: "whisper",
    vocab_size: 400,
    d_model: 32,
    num_mel_bins: 16,
    encoder_layers: 1,
    encoder_attention_heads: 2,
    encoder_ffn_dim: 48,
    decoder_layers: 1,
    decoder_attention_heads: 2,
    decoder_ffn_dim: 48,
    max_source_positions: 50,
    max_target_positions: positions,
  };
  const generation = {
    decoder_start_token_id: 310,
    eos_token_id: 300,
    no_timestamps_token_id: 311,
    max_initial_timestamp_index: 10,
    lang_to_id: { "<|en|>": 301 },
    task_to_id: { transcribe: 306 },
  };
  const model = writeRandomModel(
    path,
    config,
    { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 16, chunk_length: 1 },
    { seed, generation },
  );
  copyFileSync(join(fixtures, "text", "tokenizer_byte_level.json"), join(model, "tokenizer.json"));
  return model;
}

export function writeCohere(path: string): string {
  const sizes = { hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 48 };
  const config = {
    model_type: "cohere_asr",
    vocab_size: 40,
    ...sizes,
    max_position_embeddings: 32,
    eos_token_id: 9,
    encoder_config: { ...sizes, subsampling_conv_channels: 16, num_mel_bins: 16 },
  };
  const preprocessor = {
    feature_extractor_type: "CohereAsrFeatureExtractor",
    feature_size: 16,
    max_audio_clip_s: 2,
    overlap_chunk_second: 0.4,
    min_energy_window_samples: 800,
  };
  // Random weights would write tokens of the prompt, or nothing.
  const generation = { suppress_tokens: [0, 1, 2, 3, 4, 5, 6, 7, 8], begin_suppress_tokens: [9, 10] };
  const model = writeRandomModel(path, config, preprocessor, { generation });
  const letters = Array.from({ length: 30 }, (_, i) => (i === 0 ? "▁" : String.fromCharCode(96 + i)));
  writeFileSync(join(model, "tokenizer.json"), JSON.stringify(promptedLetters(letters)));
  return model;
}

/** Four recordings of letters and their manifest, of which it gives the path. */
export function writeSpokenLetters(folder: string): string {
  const lines = Array.from({ length: 4 }, (_, index) => ({
    audio_filepath: writeWav(join(folder, `${index}.wav`), tones(0.5 + 0.1 * (index % 3), index)),
    duration: 0.5 + 0.1 * (index % 3),
    text: ["a b c d e f", "b a d c f e"][index % 2] as string,
  }));
  const manifest = join(folder, "manifest.jsonl");
  writeFileSync(manifest, lines.map((line) => JSON.stringify(line)).join("\n"));
  return manifest;
}
