/** Folders of tiny random models of each family whose blocks are trained and smoothed, with all that compressing and transcribing need. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeRandomModel } from "./random_model.js";
import { tones, writeWav } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures");

const transformer = {
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 64,
  conv_dim: [16, 16],
  conv_kernel: [10, 8],
  conv_stride: [8, 40],
  num_conv_pos_embeddings: 8,
  num_conv_pos_embedding_groups: 2,
  vocab_size: 32,
};
/** Of Parakeet and Cohere. */
export const tinyFastConformer = {
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 64,
  subsampling_conv_channels: 8,
  num_mel_bins: 16,
};
const letters = Object.fromEntries(
  ["<pad>", "<s>", "</s>", "<unk>", "|", "'", ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"].map((letter, id) => [letter, id]),
);

interface FamilyModel {
  readonly config: object;
  readonly preprocessor: object;
  readonly generation?: object;
  /** Of the fixtures; absent: letters. */
  readonly tokenizer?: "metaspace" | "byte_level";
}

const samples = { feature_extractor_type: "Wav2Vec2FeatureExtractor", return_attention_mask: true };

export const familyModels = {
  parakeet_ctc: {
    config: { model_type: "parakeet_ctc", vocab_size: 61, pad_token_id: 60, encoder_config: tinyFastConformer },
    preprocessor: { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 16 },
    tokenizer: "metaspace",
  },
  wav2vec2: {
    config: { model_type: "wav2vec2", ...transformer, feat_extract_norm: "layer", do_stable_layer_norm: true },
    preprocessor: samples,
  },
  hubert: { config: { model_type: "hubert", ...transformer }, preprocessor: samples },
  "wav2vec2-conformer": {
    config: { model_type: "wav2vec2-conformer", ...transformer, conv_depthwise_kernel_size: 5 },
    preprocessor: samples,
  },
  "wav2vec2-conformer, rotary": {
    config: {
      model_type: "wav2vec2-conformer",
      ...transformer,
      conv_depthwise_kernel_size: 5,
      position_embeddings_type: "rotary",
      hidden_act: "swish",
    },
    preprocessor: samples,
  },
  "wav2vec2-bert": {
    config: {
      model_type: "wav2vec2-bert",
      hidden_size: 32,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 64,
      conv_depthwise_kernel_size: 5,
      vocab_size: 32,
    },
    preprocessor: { feature_extractor_type: "SeamlessM4TFeatureExtractor" },
  },
  whisper: {
    config: {
      model_type: "whisper",
      vocab_size: 420,
      d_model: 32,
      num_mel_bins: 16,
      encoder_layers: 1,
      encoder_attention_heads: 2,
      encoder_ffn_dim: 64,
      decoder_layers: 1,
      decoder_attention_heads: 2,
      decoder_ffn_dim: 64,
      max_source_positions: 50,
      max_target_positions: 40,
    },
    preprocessor: { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 16, chunk_length: 1 },
    generation: {
      decoder_start_token_id: 310,
      eos_token_id: 300,
      no_timestamps_token_id: 311,
      lang_to_id: { "<|en|>": 301 },
      task_to_id: { transcribe: 306 },
    },
    tokenizer: "byte_level",
  },
  cohere_asr: {
    config: {
      model_type: "cohere_asr",
      vocab_size: 38,
      hidden_size: 32,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 64,
      max_position_embeddings: 64,
      eos_token_id: 9,
      encoder_config: { ...tinyFastConformer, subsampling_conv_channels: 16 },
    },
    preprocessor: { feature_extractor_type: "CohereAsrFeatureExtractor", feature_size: 16, max_audio_clip_s: 35 },
    generation: { suppress_tokens: [0, 1, 2, 3, 4, 5, 6, 7, 8] }, // of the prompt, which random weights would write
  },
} as const satisfies Record<string, FamilyModel>;
export type FamilyName = keyof typeof familyModels;

/** What `compress` is to be told about the language: sequence-to-sequence models know several. */
export const languageOf = (family: string): { language?: string } =>
  family === "whisper" || family === "cohere_asr" ? { language: "en" } : {};

/** Writes the model into `folder`, named after its family; returns where. */
export function writeFamilyModel(folder: string, family: FamilyName): string {
  const { config, preprocessor, generation, tokenizer }: FamilyModel = familyModels[family];
  const model = writeRandomModel(join(folder, family), config, preprocessor, generation ? { generation } : {});
  if (tokenizer) copyFileSync(join(fixtures, "text", `tokenizer_${tokenizer}.json`), join(model, "tokenizer.json"));
  else if (family === "cohere_asr")
    writeFileSync(join(model, "tokenizer.json"), JSON.stringify(promptedLetters(["▁", ..."ABCDEFGHIJKLMNOPQRSTUVWXYZ'"])));
  else writeFileSync(join(model, "vocab.json"), JSON.stringify(letters));
  return model;
}

/** Special tokens of cohere_asr, of which its prompt consists. */
export const promptPieces = [
  "<|startofcontext|>",
  "<|startoftranscript|>",
  "<|emo:undefined|>",
  "<|en|>",
  "<|de|>",
  "<|pnc|>",
  "<|noitn|>",
  "<|notimestamp|>",
  "<|nodiarize|>",
  "<|endoftext|>",
];

/** A tokenizer of letters with these. */
export function promptedLetters(letters: readonly string[]): object {
  const vocab = Object.fromEntries([...promptPieces, ...letters].map((piece, id) => [piece, id]));
  const added_tokens = promptPieces.map((content, id) => ({ id, content, special: true }));
  return { model: { type: "BPE", vocab, merges: [] }, added_tokens, pre_tokenizer: { type: "Metaspace" } };
}

/** Writes clips of half a second, which fit into the windows of all these models, and a manifest of them; returns its path. */
export function writeShortCorpus(folder: string, utterances: number): string {
  mkdirSync(folder, { recursive: true });
  const lines = Array.from({ length: utterances }, (_, index) => {
    writeWav(join(folder, `clip${index}.wav`), tones(0.5, index));
    return JSON.stringify({ audio_filepath: `clip${index}.wav`, duration: 0.5, text: index % 2 ? "A CAB" : "A BAD HAT" });
  });
  const manifest = join(folder, "manifest.jsonl");
  writeFileSync(manifest, lines.join("\n"));
  return manifest;
}
