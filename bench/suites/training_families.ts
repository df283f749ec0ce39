/**
 * Suite `training-families`: a training step (forward, backward, AdamW) on a GPU of models of other families than that of `training-cuda`,
 * their weights int4+2:4 by fake quantization: Parakeet CTC and RNN-T of FastConformer L's size, on the batch of that suite, Whisper small
 * and wav2vec 2.0 base. There are no peers: it tells what these architectures cost beside the figure of that suite.
 */
import type { JsonObject } from "../../lib/checkpoint/json_file.js";
import { gpuInformation, hasGpu } from "../../lib/device/gpu.js";
import { placeForTraining } from "../../lib/models/device_training.js";
import { describeModel } from "../../lib/models/model_folder.js";
import { DeviceTraining, RepeatedWeights, trainingBatch } from "../device_training.js";
import { measureInTurn } from "../measure.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

/** A model, and what it hears. */
interface Family {
  readonly name: string;
  readonly config: JsonObject;
  /** Frames of features, or samples, a second. */
  readonly rate: number;
  /** Of each utterance; where windows are filled with silence those. */
  readonly seconds: readonly number[];
  readonly targets: readonly (readonly number[])[];
}

function parakeet(emulated: boolean, decoder: "CTC" | "RNN-T"): Family {
  const vocabulary = 1025;
  const { seconds, labels } = trainingBatch(emulated, vocabulary - 1);
  const large = { hidden_size: 512, intermediate_size: 2048, num_hidden_layers: 17, num_attention_heads: 8 };
  const tiny = {
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    subsampling_conv_channels: 16,
    num_mel_bins: 16,
  };
  const transducer = { blank_token_id: vocabulary - 1, decoder_hidden_size: emulated ? 32 : 640, num_decoder_layers: 1 };
  const config = {
    ...(decoder === "CTC" ? { model_type: "parakeet_ctc", pad_token_id: vocabulary - 1 } : { model_type: "parakeet_rnnt", ...transducer }),
    vocab_size: vocabulary,
    encoder_config: emulated ? tiny : large,
  };
  return { name: `Parakeet ${decoder}`, config, rate: 100, seconds, targets: labels };
}

function whisper(emulated: boolean): Family {
  const sizes = (d_model: number, layers: number, heads: number): JsonObject => ({
    d_model,
    encoder_layers: layers,
    decoder_layers: layers,
    encoder_attention_heads: heads,
    decoder_attention_heads: heads,
    encoder_ffn_dim: 4 * d_model,
    decoder_ffn_dim: 4 * d_model,
  });
  const config = {
    model_type: "whisper",
    vocab_size: 51_865,
    num_mel_bins: 80,
    ...(emulated ? { ...sizes(32, 1, 2), vocab_size: 100, max_source_positions: 50 } : sizes(768, 12, 12)),
  };
  const seconds = emulated ? [1] : new Array<number>(8).fill(30);
  const tokens = (_: number, item: number): number[] => Array.from({ length: emulated ? 5 : 100 }, (_, i) => (7 * i + item) % 90);
  return {
    name: "Whisper",
    config: { ...config, ...(emulated && { eos_token_id: 99, decoder_start_token_id: 98 }) },
    rate: 100,
    seconds,
    targets: seconds.map(tokens),
  };
}

function wav2vec2(emulated: boolean): Family {
  const tiny = {
    hidden_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 64,
    conv_dim: [16, 16],
    conv_kernel: [400, 3],
    conv_stride: [160, 2],
    num_conv_pos_embeddings: 8,
    num_conv_pos_embedding_groups: 4,
  };
  const { seconds, labels } = trainingBatch(emulated, 32);
  const few = Math.ceil(seconds.length / 2);
  return {
    name: "wav2vec 2.0",
    config: { model_type: "wav2vec2", vocab_size: 32, ...(emulated ? tiny : {}) },
    rate: 16_000,
    seconds: seconds.slice(0, few),
    targets: labels.slice(0, few),
  };
}

export const trainingFamilies: BenchmarkSuite = {
  name: "training-families",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("training-families skipped: there is no GPU");
    const { emulated } = gpuInformation();
    for (const { name, config, rate, seconds, targets } of [
      parakeet(emulated, "CTC"),
      parakeet(emulated, "RNN-T"),
      whisper(emulated),
      wav2vec2(emulated),
    ]) {
      const onCpu = describeModel(config, "the benchmark").network(new RepeatedWeights());
      const network = placeForTraining(onCpu);
      onCpu.dispose();
      const training = new DeviceTraining(
        network,
        seconds.map((duration) => duration * rate),
        targets,
      );
      const [timing] = await measureInTurn([training.contestant], { rounds: 3, millisecondsPerTurn: 1000, millisecondsBetween: 1 });
      const { parameters, peakBytes } = training;
      training.dispose();
      if (!timing) continue;
      const audio = seconds.reduce((sum, duration) => sum + duration, 0);
      const range = [...new Set([Math.min(...seconds), Math.max(...seconds)])].join("..");
      context.record({
        suite: "training-families",
        case: `${name} of ${Math.round(parameters / 1e5) / 10}M, ${seconds.length} x ${range} s`,
        impl: "usm-lite",
        spec: "int4+2:4",
        device: "cuda",
        threads: 1,
        ...timing,
        rtfx: audio / (timing.ms / 1000),
        peakBytes,
      });
    }
  },
};
