/** Tiny random models of the families that can be trained, and batches for them. */
import type { BatchSource } from "../lib/data/batch_source.js";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import type { TrainingBatch } from "../lib/index.js";
import { SequenceOffsets, Tensor } from "../lib/operations.js";
import { describeModel } from "../lib/models/model_folder.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { randomValues } from "./gradient.js";
import { tinyEncoder } from "./tiny_model.js";

const encoder = {
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 32,
  subsampling_conv_channels: 4,
  num_mel_bins: 16,
};
const local = { attention_type: "rel_pos_local_attn", attention_context_size: [3, 2] };
const transducer = { vocab_size: 7, blank_token_id: 6, decoder_hidden_size: 12, num_decoder_layers: 2, encoder_config: encoder };
const transformer = {
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 32,
  conv_dim: [8, 8],
  conv_kernel: [10, 3],
  conv_stride: [8, 5],
  num_conv_pos_embeddings: 6,
  num_conv_pos_embedding_groups: 2,
  vocab_size: 7,
  ctc_loss_reduction: "mean",
};

const pairs = {
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 32,
  feature_projection_input_dim: 16,
  conv_depthwise_kernel_size: 5,
  left_max_position_embeddings: 3,
  right_max_position_embeddings: 2,
  vocab_size: 7,
  ctc_loss_reduction: "mean",
};

/** `config.json` by what the tests call the model. */
export const trainableConfigs: Readonly<Record<string, JsonObject>> = {
  lasr_ctc: { model_type: "lasr_ctc", vocab_size: 7, encoder_config: { ...tinyEncoder, num_mel_bins: 16 } },
  parakeet_ctc: { model_type: "parakeet_ctc", vocab_size: 7, pad_token_id: 6, encoder_config: encoder },
  parakeet_rnnt: { model_type: "parakeet_rnnt", ...transducer },
  parakeet_tdt: { model_type: "parakeet_tdt", durations: [0, 1, 2, 3], ...transducer, encoder_config: { ...encoder, ...local } },
  wav2vec2: { model_type: "wav2vec2", ...transformer, feat_extract_norm: "layer", do_stable_layer_norm: true, adapter_attn_dim: 8 },
  "wav2vec2 with adapter": {
    model_type: "wav2vec2",
    ...transformer,
    hidden_act: "silu",
    feat_extract_activation: "relu",
    add_adapter: true,
    num_adapter_layers: 1,
    output_hidden_size: 12,
  },
  hubert: { model_type: "hubert", ...transformer, conv_pos_batch_norm: true },
  "wav2vec2-conformer relative": { model_type: "wav2vec2-conformer", ...transformer, conv_depthwise_kernel_size: 5 },
  "wav2vec2-conformer rotary": {
    model_type: "wav2vec2-conformer",
    ...transformer,
    hidden_act: "swish",
    position_embeddings_type: "rotary",
    conv_depthwise_kernel_size: 5,
  },
  "wav2vec2-bert": { model_type: "wav2vec2-bert", ...pairs },
  "wav2vec2-bert with adapter": {
    model_type: "wav2vec2-bert",
    ...pairs,
    position_embeddings_type: "rotary",
    add_adapter: true,
    use_intermediate_ffn_before_adapter: true,
    output_hidden_size: 12,
  },
  whisper: {
    model_type: "whisper",
    vocab_size: 7,
    d_model: 16,
    encoder_layers: 1,
    decoder_layers: 2,
    encoder_attention_heads: 2,
    decoder_attention_heads: 2,
    encoder_ffn_dim: 32,
    decoder_ffn_dim: 32,
    num_mel_bins: 16,
    max_source_positions: 25,
    max_target_positions: 16,
    eos_token_id: 6,
    decoder_start_token_id: 5,
  },
  cohere_asr: {
    model_type: "cohere_asr",
    vocab_size: 7,
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 32,
    max_position_embeddings: 16,
    eos_token_id: 6,
    tie_word_embeddings: true,
    encoder_config: encoder,
  },
} as const;

export function freshModel(name: string, seed = 1): TrainableNetwork {
  const network = describeModel(trainableConfigs[name] as JsonObject, "config.json").network(new FreshWeights(seed));
  return trainableNetwork({ network, folder: name });
}

/** The same two utterances again and again: enough hidden frames for two and three labels. */
export class OneBatch implements BatchSource {
  /** @param window frames that models hear whose windows are all of one length */
  constructor(
    private readonly network: TrainableNetwork,
    private readonly window = 50,
  ) {}

  count(): number {
    return 1;
  }

  batch(): TrainingBatch {
    const { featureSize } = this.network;
    const written = this.network.kind === "sequence-to-sequence";
    const lengths = featureSize === 1 ? [500, 330] : written && this.network.fixedWindow ? [this.window, this.window] : [79, 62];
    const offsets = new SequenceOffsets(lengths);
    return {
      features: Tensor.from(randomValues(offsets.frames * featureSize, 5), [offsets.frames, featureSize]),
      offsets,
      targets: written
        ? [
            [5, 1, 2, 0, 4, 4, 1, 2, 3, 1, 2, 6],
            [5, 1, 2, 0, 4, 4, 1, 2, 3, 0, 6],
          ]
        : [
            [1, 2, 2],
            [3, 1],
          ],
      audioSeconds: 1,
    };
  }
}
