/** Published models at their size, and how each is compressed. */
import { parseRecipe, type Recipe } from "../lib/index.js";

export interface FullSizeModel {
  readonly config: object;
  readonly generation: object;
  readonly preprocessor: object;
  readonly recipe: Recipe;
}

const parakeetEncoder = {
  model_type: "parakeet_encoder",
  hidden_size: 1024,
  num_hidden_layers: 24,
  num_attention_heads: 8,
  intermediate_size: 4096,
  conv_kernel_size: 9,
  subsampling_conv_channels: 256,
  num_mel_bins: 128,
  attention_bias: false,
  convolution_bias: false,
  scale_input: false,
};

const cohereEncoder = {
  hidden_size: 1280,
  num_hidden_layers: 48,
  num_attention_heads: 8,
  intermediate_size: 5120,
  subsampling_conv_channels: 256,
  num_mel_bins: 128,
  scale_input: false,
};

/** Rounded without data; `layers` has other specs by pattern. */
const roundToNearest = (spec: string, layers: Readonly<Record<string, string>>): Recipe => {
  const others = Object.entries(layers).map(([pattern, own]) => ({ type: "round-to-nearest", targets: [pattern], spec: own }));
  return parseRecipe(JSON.stringify({ stages: [{ modifiers: [{ type: "round-to-nearest", spec }, ...others] }] }), "the recipe");
};

export const fullSizeModels: Readonly<Record<string, FullSizeModel>> = {
  "parakeet-tdt-0.6b": {
    config: {
      model_type: "parakeet_tdt",
      vocab_size: 8193,
      blank_token_id: 8192,
      pad_token_id: 2,
      decoder_hidden_size: 640,
      num_decoder_layers: 2,
      durations: [0, 1, 2, 3, 4],
      encoder_config: parakeetEncoder,
    },
    generation: {},
    preprocessor: { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 128 },
    recipe: roundToNearest("int4+2:4", {
      "decoder.*": "int8",
      "joint.head": "int8",
      encoder_projector: "int8",
      "encoder.subsampling.linear": "int4+2:4",
    }),
  },
  "cohere-2b": {
    config: {
      model_type: "cohere_asr",
      vocab_size: 16384,
      hidden_size: 1024,
      num_hidden_layers: 8,
      num_attention_heads: 8,
      intermediate_size: 4096,
      encoder_config: cohereEncoder,
    },
    generation: {},
    preprocessor: { feature_extractor_type: "CohereAsrFeatureExtractor", feature_size: 128 },
    recipe: roundToNearest("int4+2:4", {
      "model.decoder.proj": "int8",
      proj_out: "int8",
      "model.decoder.embed_tokens": "int8",
      "model.encoder.subsampling.linear": "int4+2:4",
    }),
  },
  // As most fine-tunes with a CTC head: an adapter, and letters.
  "w2v-bert-2.0": {
    config: { model_type: "wav2vec2-bert", vocab_size: 40, add_adapter: true },
    generation: {},
    preprocessor: { feature_extractor_type: "SeamlessM4TFeatureExtractor" },
    recipe: roundToNearest("int4+2:4", { "*.adapter.layers.0.*_conv": "int8" }),
  },
  "whisper-large-v3-turbo": {
    config: {
      model_type: "whisper",
      vocab_size: 51866,
      num_mel_bins: 128,
      d_model: 1280,
      encoder_layers: 32,
      encoder_attention_heads: 20,
      encoder_ffn_dim: 5120,
      decoder_layers: 4,
      decoder_attention_heads: 20,
      decoder_ffn_dim: 5120,
      max_source_positions: 1500,
      max_target_positions: 448,
    },
    generation: { decoder_start_token_id: 50258, eos_token_id: 50257, no_timestamps_token_id: 50364, max_length: 448 },
    preprocessor: { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 128 },
    recipe: roundToNearest("int4+2:4", { "model.encoder.conv*": "int8", "model.decoder.embed_tokens": "int8" }),
  },
};
