/** The families of models that can be loaded: what their `model_type` means. */
import { frontEnds } from "../audio/family_front_ends.js";
import type { FrontEnd } from "../audio/front_end.js";
import type { JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import type { WeightSource } from "../nn/weight_source.js";
import { parseCohereConfig, parseCohereGeneration } from "./cohere/cohere_config.js";
import { cohereName } from "./cohere/cohere_names.js";
import { CohereNetwork } from "./cohere/cohere_network.js";
import { headDimension, parseLasrConfig, type LasrEncoderConfig } from "./lasr/lasr_config.js";
import { LasrForCtc } from "./lasr/lasr_for_ctc.js";
import {
  checkParakeetGeneration,
  parseParakeetCtcConfig,
  parseParakeetTransducerConfig,
  type ParakeetEncoderConfig,
} from "./parakeet/parakeet_config.js";
import { ParakeetForCtc } from "./parakeet/parakeet_for_ctc.js";
import { ParakeetTransducer } from "./parakeet/parakeet_transducer.js";
import type { SpeechNetwork } from "./speech_network.js";
import { languageAdapterSize, outputSize, parseWav2Vec2Config, samplesPerFrame, type Wav2Vec2Config } from "./wav2vec2/wav2vec2_config.js";
import { Wav2Vec2ForCtc } from "./wav2vec2/wav2vec2_for_ctc.js";
import { framesPerHiddenFrame, parseWav2Vec2BertConfig, type Wav2Vec2BertConfig } from "./wav2vec2_bert/wav2vec2_bert_config.js";
import { Wav2Vec2BertForCtc } from "./wav2vec2_bert/wav2vec2_bert_for_ctc.js";
import { parseWhisperConfig, parseWhisperGeneration } from "./whisper/whisper_config.js";
import { WhisperNetwork } from "./whisper/whisper_network.js";

/** A model that a `config.json` describes, before it has weights. */
export interface ModelDescription {
  /** Frames of features per hidden frame. */
  readonly stride: number;
  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has a wrong shape */
  network(source: WeightSource): SpeechNetwork;
  /** What transformers calls a tensor that a checkpoint may have under another name. */
  readonly rename?: (name: string) => string;
  /** Tensors of the checkpoint that inference has no use for. */
  readonly unusedWeights?: RegExp;
  /** Names of the weights that compute on a GPU. Absent: there is no such form. */
  readonly gpuWeights?: RegExp;
  /** @throws UsmLiteError BAD_CONFIG for a `preprocessor_config.json` that this family cannot honour */
  frontEnd(preprocessor: JsonObject, source: string): FrontEnd;
}

/** @param generation the parsed `generation_config.json`, empty where there is none */
type Family = (config: JsonObject, source: string, generation: JsonObject) => ModelDescription;

function parakeet(config: JsonObject, source: string, generation: JsonObject): ModelDescription {
  const ctc = config["model_type"] === "parakeet_ctc" ? parseParakeetCtcConfig(config, source) : undefined;
  const transducer = ctc ? undefined : parseParakeetTransducerConfig(config, source);
  if (transducer) checkParakeetGeneration(generation, transducer, source.replace(/config\.json$/, "generation_config.json"));
  const encoder = (ctc ?? transducer)?.encoder_config as NonNullable<typeof ctc>["encoder_config"];
  return {
    stride: encoder.subsampling_factor,
    ...gpuWeightsOf(encoder, ctc ? /^/ : /^encoder/),
    network: (weights) =>
      ctc ? new ParakeetForCtc(ctc, weights) : new ParakeetTransducer(transducer as NonNullable<typeof transducer>, weights),
    frontEnd: frontEnds.parakeet_ctc,
  };
}

function gpuWeightsOf(encoder: ParakeetEncoderConfig, names: RegExp): { gpuWeights?: RegExp } {
  const { hidden_size: hidden, num_attention_heads: heads, head_dim: head = hidden / heads, conv_kernel_size: kernel } = encoder;
  const fits = fitsGpu(hidden, encoder.intermediate_size, encoder.subsampling_conv_channels) && headFitsGpu(head);
  return fits && kernel <= maximumDepthwiseKernel ? { gpuWeights: names } : {};
}

function lasrFitsGpu(encoder: LasrEncoderConfig): boolean {
  const { hidden_size: hidden, intermediate_size, subsampling_conv_channels: channels, num_mel_bins: bins, conv_kernel_size: kernel } = encoder;
  return fitsGpu(hidden, intermediate_size, channels, bins) && headFitsGpu(headDimension(encoder)) && kernel <= maximumDepthwiseKernel;
}

function wav2vec2(json: JsonObject, source: string): ModelDescription {
  const config = parseWav2Vec2Config(json, source);
  return {
    stride: samplesPerFrame(config),
    ...(wav2vec2FitsGpu(config) ? { gpuWeights: /^/ } : {}),
    network: (weights) => new Wav2Vec2ForCtc(config, weights),
    // The mask is for training, frequencies follow from their base; the Conformer passes the others' positional convolution by.
    unusedWeights:
      config.model_type === "wav2vec2-conformer"
        ? /\.masked_spec_embed$|\.encoder\.pos_conv_embed\.|\.embed_positions\.inv_freq$/
        : /\.masked_spec_embed$/,
    frontEnd: frontEnds.wav2vec2,
  };
}

function wav2vec2FitsGpu(config: Wav2Vec2Config): boolean {
  const { hidden_size: hidden, num_attention_heads: heads, intermediate_size, conv_dim } = config;
  if (!fitsGpu(hidden, outputSize(config), intermediate_size, ...conv_dim, languageAdapterSize(config) ?? 0) || !headFitsGpu(hidden / heads)) return false;
  if (config.model_type === "wav2vec2-conformer") return config.conv_depthwise_kernel_size <= maximumDepthwiseKernel;
  return fitsGpu(hidden / config.num_conv_pos_embedding_groups);
}

function wav2vec2Bert(json: JsonObject, source: string): ModelDescription {
  const config = parseWav2Vec2BertConfig(json, source);
  return {
    stride: framesPerHiddenFrame(config),
    ...(wav2vec2BertFitsGpu(config) ? { gpuWeights: /^/ } : {}),
    network: (weights) => new Wav2Vec2BertForCtc(config, weights),
    unusedWeights: /\.masked_spec_embed$/, // for training
    frontEnd: (preprocessor, path) => {
      const features = frontEnds["wav2vec2-bert"](preprocessor, path);
      const { featureSize } = features.config;
      if (featureSize === config.feature_projection_input_dim) return features;
      throw new UsmLiteError(
        "BAD_CONFIG",
        `${path}: num_mel_bins ${featureSize / 2} makes frames of ${featureSize} values, but ${source} has feature_projection_input_dim ${config.feature_projection_input_dim}`,
      );
    },
  };
}

function wav2vec2BertFitsGpu(config: Wav2Vec2BertConfig): boolean {
  const { hidden_size: hidden, num_attention_heads: heads, intermediate_size, feature_projection_input_dim: features } = config;
  const output = outputSize(config);
  const fits = fitsGpu(hidden, intermediate_size, features, output) && headFitsGpu(hidden / heads) && headFitsGpu(output / heads);
  return fits && config.conv_depthwise_kernel_size <= maximumDepthwiseKernel;
}

function whisper(json: JsonObject, source: string, generation: JsonObject): ModelDescription {
  const config = parseWhisperConfig(json, source);
  const generationConfig = parseWhisperGeneration(generation, config, source.replace(/config\.json$/, "generation_config.json"));
  return {
    stride: 2,
    ...(fitsGpu(config.num_mel_bins, config.encoder_ffn_dim, config.decoder_ffn_dim) &&
    [config.encoder_attention_heads, config.decoder_attention_heads].every((heads) => headFitsGpu(config.d_model / heads))
      ? { gpuWeights: sequenceWeights(config.tie_word_embeddings) }
      : {}),
    network: (weights) => new WhisperNetwork(config, generationConfig, weights),
    // Written by older versions although it is the token embedding again.
    ...(config.tie_word_embeddings ? { unusedWeights: /^proj_out\.weight$/ } : {}),
    frontEnd: (preprocessor, path) => {
      const features = frontEnds.whisper(preprocessor, path);
      const wanted = 2 * config.max_source_positions;
      if (features.frames() === wanted) return features;
      throw new UsmLiteError(
        "BAD_CONFIG",
        `${path}: chunk_length gives windows of ${features.frames()} frames, but ${source} has max_source_positions ${wanted / 2}, which asks for ${wanted}`,
      );
    },
  };
}

function cohere(json: JsonObject, source: string, generation: JsonObject): ModelDescription {
  const config = parseCohereConfig(json, source);
  const generationConfig = parseCohereGeneration(generation, config, source.replace(/config\.json$/, "generation_config.json"));
  return {
    stride: config.encoder_config.subsampling_factor,
    rename: cohereName,
    ...(fitsGpu(config.intermediate_size, config.hidden_size / config.num_attention_heads)
      ? gpuWeightsOf(config.encoder_config, sequenceWeights(config.tie_word_embeddings))
      : {}),
    network: (weights) => new CohereNetwork(config, generationConfig, weights),
    ...(config.tie_word_embeddings ? { unusedWeights: /^proj_out\.weight$/ } : {}),
    frontEnd: frontEnds.cohere_asr,
  };
}

/** Whether frames, bands and heads of these widths are what kernels on the GPU take. */
const fitsGpu = (...widths: readonly number[]): boolean => widths.every((width) => width % 8 === 0);

// What attention and depthwise convolution on the GPU take.
const maximumHeadDimension = 160;
const maximumDepthwiseKernel = 128;

const headFitsGpu = (width: number): boolean => fitsGpu(width) && width <= maximumHeadDimension;

/** All of a sequence-to-sequence model, but embeddings of tokens that are only looked up. */
const sequenceWeights = (tied: boolean): RegExp => (tied ? /^/ : /^(?!model\.decoder\.embed_tokens\.)/);

/** By `model_type`. */
export const families: Readonly<Record<string, Family>> = {
  lasr_ctc: (json, source) => {
    const config = parseLasrConfig(json, source);
    return {
      ...(lasrFitsGpu(config.encoder_config) ? { gpuWeights: /^/ } : {}),
      stride: config.encoder_config.subsampling_conv_stride ** 2,
      network: (weights) => new LasrForCtc(config, weights),
      frontEnd: frontEnds.lasr_ctc,
    };
  },
  parakeet_ctc: parakeet,
  parakeet_rnnt: parakeet,
  parakeet_tdt: parakeet,
  wav2vec2,
  hubert: wav2vec2,
  "wav2vec2-conformer": wav2vec2,
  "wav2vec2-bert": wav2vec2Bert,
  whisper,
  cohere_asr: cohere,
};
