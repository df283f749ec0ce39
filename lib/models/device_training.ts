/** Networks that are trained on the GPU: which ones can be, and how they get there. */
import { DeviceTensor } from "../device/device_tensor.js";
import { maximumDurations } from "../device/transducer_decoder.js";
import { UsmLiteError } from "../errors.js";
import { DeviceWeightSource } from "../nn/device_weight_source.js";
import type { WeightSource } from "../nn/weight_source.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainableModel } from "../train/trainable_model.js";
import type { CohereConfig } from "./cohere/cohere_config.js";
import { CohereNetwork } from "./cohere/cohere_network.js";
import { headDimension, type LasrEncoderConfig } from "./lasr/lasr_config.js";
import { LasrForCtc } from "./lasr/lasr_for_ctc.js";
import type { ParakeetEncoderConfig, ParakeetTransducerConfig } from "./parakeet/parakeet_config.js";
import { ParakeetForCtc } from "./parakeet/parakeet_for_ctc.js";
import { ParakeetTransducer } from "./parakeet/parakeet_transducer.js";
import { languageAdapterSize, outputSize, type Wav2Vec2Config } from "./wav2vec2/wav2vec2_config.js";
import { Wav2Vec2ForCtc } from "./wav2vec2/wav2vec2_for_ctc.js";
import type { Wav2Vec2BertConfig } from "./wav2vec2_bert/wav2vec2_bert_config.js";
import { Wav2Vec2BertForCtc } from "./wav2vec2_bert/wav2vec2_bert_for_ctc.js";
import type { WhisperConfig } from "./whisper/whisper_config.js";
import { WhisperNetwork } from "./whisper/whisper_network.js";

/** A network of a family that the GPU trains. */
export type TrainedOnGpu =
  | LasrForCtc
  | ParakeetForCtc
  | ParakeetTransducer
  | CohereNetwork
  | WhisperNetwork
  | Wav2Vec2ForCtc
  | Wav2Vec2BertForCtc;

// What the kernels of attention, normalization and convolution take.
const maximumHeadDimension = 128;
const maximumFrameWidth = 4096;
const maximumKernel = 128;
const channelMultiple = 8;

/** The first convolution over samples stays where inference has it: it is not trained, and its windows are no multiples of 8 samples. */
const allButSampleConvolution = /^(?!.*\.feature_extractor\.conv_layers\.0\.conv\.)/;

/** What kernels have limits for in a network; keys are those of `config.json`. */
interface NetworkSizes {
  /** Values of a head of each attention. */
  readonly heads: readonly number[];
  /** Values of the frames that are normalized. */
  readonly frames: readonly number[];
  /** Frames that depthwise convolutions see. */
  readonly kernels: Readonly<Record<string, number>>;
  /** Sizes that are to be multiples of 8. */
  readonly multiples: Readonly<Record<string, number>>;
  /** What there is more of than kernels take: "17 durations, more than 16". */
  readonly tooMany?: string | undefined;
}

const lasrSizes = (config: LasrEncoderConfig): NetworkSizes => ({
  heads: [headDimension(config)],
  frames: [config.hidden_size],
  kernels: { conv_kernel_size: config.conv_kernel_size },
  multiples: { hidden_size: config.hidden_size, intermediate_size: config.intermediate_size },
});

function parakeetSizes(config: ParakeetEncoderConfig): NetworkSizes {
  const { num_attention_heads: heads, hidden_size, intermediate_size, subsampling_conv_channels, conv_kernel_size } = config;
  return {
    heads: [config.head_dim ?? hidden_size / heads],
    frames: [hidden_size],
    kernels: { conv_kernel_size },
    multiples: { hidden_size, intermediate_size, subsampling_conv_channels },
  };
}

function transducerSizes({ encoder_config, durations }: ParakeetTransducerConfig): NetworkSizes {
  const tooMany = durations.length > maximumDurations ? `${durations.length} durations, more than ${maximumDurations}` : undefined;
  return { ...parakeetSizes(encoder_config), tooMany };
}

function cohereSizes({ encoder_config, hidden_size, num_attention_heads, intermediate_size }: CohereConfig): NetworkSizes {
  const encoder = parakeetSizes(encoder_config);
  return {
    ...encoder,
    heads: [...encoder.heads, hidden_size / num_attention_heads],
    frames: [...encoder.frames, hidden_size],
    multiples: { ...encoder.multiples, "hidden_size of the decoder": hidden_size, "intermediate_size of the decoder": intermediate_size },
  };
}

function whisperSizes(config: WhisperConfig): NetworkSizes {
  const { d_model, encoder_attention_heads, decoder_attention_heads, num_mel_bins, encoder_ffn_dim, decoder_ffn_dim } = config;
  return {
    heads: [d_model / encoder_attention_heads, d_model / decoder_attention_heads],
    frames: [d_model],
    kernels: {},
    multiples: { num_mel_bins, d_model, encoder_ffn_dim, decoder_ffn_dim },
  };
}

function wav2vec2Sizes(config: Wav2Vec2Config): NetworkSizes {
  const {
    model_type,
    hidden_size,
    num_attention_heads,
    intermediate_size,
    conv_dim,
    conv_depthwise_kernel_size,
    num_conv_pos_embedding_groups,
  } = config;
  const isConformer = model_type === "wav2vec2-conformer";
  const adapter_attn_dim = languageAdapterSize(config);
  return {
    heads: [hidden_size / num_attention_heads],
    frames: [hidden_size, outputSize(config), ...conv_dim],
    kernels: isConformer ? { conv_depthwise_kernel_size } : {},
    multiples: {
      hidden_size,
      intermediate_size,
      ...Object.fromEntries(conv_dim.map((channels, layer) => [`conv_dim[${layer}]`, channels])),
      ...(config.add_adapter ? { output_hidden_size: outputSize(config) } : {}),
      ...(adapter_attn_dim === undefined ? {} : { adapter_attn_dim }),
      ...(isConformer ? {} : { "hidden_size / num_conv_pos_embedding_groups": hidden_size / num_conv_pos_embedding_groups }),
    },
  };
}

function wav2vec2BertSizes(config: Wav2Vec2BertConfig): NetworkSizes {
  const { hidden_size, num_attention_heads: heads, intermediate_size, feature_projection_input_dim, conv_depthwise_kernel_size } = config;
  const output = outputSize(config);
  return {
    heads: [hidden_size / heads, output / heads],
    frames: [hidden_size, feature_projection_input_dim, output],
    kernels: { conv_depthwise_kernel_size },
    multiples: { hidden_size, intermediate_size, feature_projection_input_dim, output_hidden_size: output },
  };
}

/** The sizes of a network, undefined where its family is not trained on the GPU. */
function networkSizes(network: unknown): NetworkSizes | undefined {
  if (network instanceof LasrForCtc) return lasrSizes(network.config.encoder_config);
  if (network instanceof ParakeetForCtc) return parakeetSizes(network.config.encoder_config);
  if (network instanceof ParakeetTransducer) return transducerSizes(network.config);
  if (network instanceof CohereNetwork) return cohereSizes(network.config);
  if (network instanceof WhisperNetwork) return whisperSizes(network.config);
  if (network instanceof Wav2Vec2BertForCtc) return wav2vec2BertSizes(network.config);
  return network instanceof Wav2Vec2ForCtc ? wav2vec2Sizes(network.config) : undefined;
}

/**
 * @param what the network is called in the message: a folder
 * @throws UsmLiteError UNSUPPORTED_MODEL for a network that the GPU cannot train: of no family that this package loads, or of sizes that kernels do
 * not take
 */
export function checkTrainableOnGpu(network: unknown, what: string): asserts network is TrainedOnGpu {
  const refuse = (why: string): never => {
    throw new UsmLiteError("UNSUPPORTED_MODEL", `${what} ${why}; train it with device "cpu"`);
  };
  const sizes = networkSizes(network);
  if (!sizes) return refuse("is a network of no family that the GPU trains");
  const { heads, frames, kernels, multiples, tooMany } = sizes;
  if (tooMany) refuse(`has ${tooMany}, which the GPU does not train`);
  for (const head of heads) {
    if (head % channelMultiple !== 0 || head > maximumHeadDimension) {
      refuse(`has heads of ${head} values; on the GPU they are trained with 8, 16, .. ${maximumHeadDimension}`);
    }
  }
  for (const width of frames) {
    if (width > maximumFrameWidth) refuse(`has frames of ${width} values; on the GPU they are trained with up to ${maximumFrameWidth}`);
  }
  for (const [name, kernel] of Object.entries(kernels)) {
    if (kernel > maximumKernel) refuse(`has ${name} ${kernel}; on the GPU it can be up to ${maximumKernel}`);
  }
  for (const [name, size] of Object.entries(multiples)) {
    if (size % channelMultiple !== 0) refuse(`has ${name} ${size}; on the GPU it must be a multiple of ${channelMultiple}`);
  }
}

/**
 * The same network with copies of its weights on the GPU, as float32, to be trained there; the first convolution over samples, which is not
 * trained, goes there as for inference. Dispose of it.
 * @throws UsmLiteError UNSUPPORTED_MODEL as {@link checkTrainableOnGpu}; NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
 *
 * @example
 * const network = placeForTraining(loadModel("float").network);
 * await new Trainer(network, batches, { folder: "run", totalSteps: 500, schedule }).run();
 */
export function placeForTraining<Network>(network: Network, what = "the model"): Extract<TrainedOnGpu, Network> {
  const trained: unknown = network;
  checkTrainableOnGpu(trained, what);
  return placed(trained) as Extract<TrainedOnGpu, Network>;
}

/**
 * The same network with copies of its weights on the GPU that do not learn, so that something added to them can: those of its blocks rounded to
 * bfloat16, half the memory of {@link placeForTraining}. Dispose of it.
 * @throws UsmLiteError as {@link placeForTraining}
 *
 * @example
 * const network = placeFrozen(loadModel("int4", { weights: "float32" }).network); // by adapters: withAdapters(scope, () => network.loss(..))
 */
export function placeFrozen<Network>(network: Network, what = "the model"): Extract<TrainedOnGpu, Network> {
  const frozen: unknown = network;
  checkTrainableOnGpu(frozen, what);
  return placed(frozen, new Set(frozen.blockWeights())) as Extract<TrainedOnGpu, Network>;
}

/** @param frozen names of the weights that do not learn */
function placed(network: TrainedOnGpu, frozen?: ReadonlySet<string>): TrainedOnGpu {
  const copies = copiesOf(network);
  if (network instanceof LasrForCtc) return new LasrForCtc(network.config, new DeviceWeightSource(copies, undefined, frozen));
  if (network instanceof ParakeetForCtc) return new ParakeetForCtc(network.config, new DeviceWeightSource(copies, undefined, frozen));
  if (network instanceof CohereNetwork)
    return new CohereNetwork(network.config, network.generation, new DeviceWeightSource(copies, undefined, frozen));
  if (network instanceof WhisperNetwork)
    return new WhisperNetwork(network.config, network.generation, new DeviceWeightSource(copies, undefined, frozen));
  if (network instanceof Wav2Vec2BertForCtc)
    return new Wav2Vec2BertForCtc(network.config, new DeviceWeightSource(copies, undefined, frozen));
  if (network instanceof Wav2Vec2ForCtc)
    return new Wav2Vec2ForCtc(network.config, new DeviceWeightSource(copies, allButSampleConvolution, frozen));
  return new ParakeetTransducer(network.config, new DeviceWeightSource(copies, undefined, frozen));
}

/** Whether a model was made by {@link placeForTraining}. */
export const isOnGpu = (model: TrainableModel): boolean =>
  [...model.parameters().values()].some((parameter) => parameter instanceof DeviceTensor);

function copiesOf(network: TrainableModel): WeightSource {
  const copy = (name: string): Tensor => {
    const found = network.parameters().get(name) ?? network.buffers().get(name);
    if (!found) throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is packed; only float weights can be trained`);
    return found.clone();
  };
  return { tensor: copy, matrix: copy, has: (name) => network.parameters().has(name) };
}
