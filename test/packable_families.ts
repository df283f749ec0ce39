/** Configurations of tiny models of all families whose weights are packed. */
const parakeetEncoder = {
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
  subsampling_conv_channels: 8,
  num_mel_bins: 80,
};
const parakeetFeatures = { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 80 };
const transformer = {
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
  conv_dim: [16, 16],
  conv_kernel: [10, 3],
  conv_stride: [8, 5],
  num_conv_pos_embeddings: 8,
  num_conv_pos_embedding_groups: 2,
  vocab_size: 9,
};
const samples = { feature_extractor_type: "Wav2Vec2FeatureExtractor", return_attention_mask: true };
const transducer = { vocab_size: 61, blank_token_id: 60, decoder_hidden_size: 16, encoder_config: parakeetEncoder };

export interface FamilyCase {
  config: object;
  preprocessor: object;
  generation?: object;
  tokenizer: "tokenizer_metaspace.json" | "tokenizer_byte_level.json" | "vocab.json";
}

export const families: Readonly<Record<string, FamilyCase>> = {
  parakeet_ctc: {
    config: { vocab_size: 61, pad_token_id: 60, encoder_config: parakeetEncoder },
    preprocessor: parakeetFeatures,
    tokenizer: "tokenizer_metaspace.json",
  },
  parakeet_rnnt: { config: transducer, preprocessor: parakeetFeatures, tokenizer: "tokenizer_metaspace.json" },
  parakeet_tdt: {
    config: { ...transducer, encoder_config: { ...parakeetEncoder, attention_type: "rel_pos_local_attn", attention_context_size: [4, 2] } },
    preprocessor: parakeetFeatures,
    tokenizer: "tokenizer_metaspace.json",
  },
  wav2vec2: {
    config: { ...transformer, feat_extract_norm: "layer", do_stable_layer_norm: true },
    preprocessor: samples,
    tokenizer: "vocab.json",
  },
  hubert: { config: transformer, preprocessor: samples, tokenizer: "vocab.json" },
  "wav2vec2-conformer": {
    config: { ...transformer, conv_depthwise_kernel_size: 5, hidden_act: "swish" },
    preprocessor: samples,
    tokenizer: "vocab.json",
  },
  "wav2vec2-bert": {
    config: {
      hidden_size: 32,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      intermediate_size: 64,
      conv_depthwise_kernel_size: 5,
      add_adapter: true,
      vocab_size: 9,
    },
    preprocessor: { feature_extractor_type: "SeamlessM4TFeatureExtractor" },
    tokenizer: "vocab.json",
  },
  whisper: {
    config: {
      vocab_size: 320,
      d_model: 32,
      encoder_layers: 1,
      encoder_attention_heads: 2,
      encoder_ffn_dim: 64,
      decoder_layers: 1,
      decoder_attention_heads: 2,
      decoder_ffn_dim: 64,
      max_source_positions: 50,
      max_target_positions: 16,
    },
    preprocessor: { feature_extractor_type: "WhisperFeatureExtractor", chunk_length: 1 },
    generation: { decoder_start_token_id: 310, eos_token_id: 300, no_timestamps_token_id: 311, is_multilingual: false },
    tokenizer: "tokenizer_byte_level.json",
  },
};
