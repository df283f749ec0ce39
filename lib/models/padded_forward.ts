/** A network on a padded batch, as transformers runs it: input and output of `usm-lite forward`. */
import type { SafetensorsEntry } from "../checkpoint/safetensors_writer.js";
import type { TensorFile } from "../checkpoint/tensor_file.js";
import { transducerGreedy } from "../decode/transducer_greedy.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { featuresOnDevice } from "../device/placement.js";
import { UsmLiteError } from "../errors.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { CtcNetwork, SequenceToSequenceNetwork, SpeechNetwork, TransducerNetwork } from "./speech_network.js";

type Entries = [string, SafetensorsEntry][];

/** Sequences without padding, and the batch that they come from. */
interface Batch {
  readonly features: Tensor;
  readonly offsets: SequenceOffsets;
  readonly size: number;
  /** Hidden frames of the longest row, padding included. */
  readonly hiddenFrames: number;
}

export interface PaddedForwardOptions {
  /** False: padding is taken for silence, as {@link FrontEndConfig} may say of a model. */
  readonly attentionMask?: boolean | undefined;
  /** Where the network's encoder computes; "cpu" by default. */
  readonly device?: "cpu" | "cuda";
}

/**
 * Reads `input_features` (batch, frames, mel bins), or `input_values` (batch, samples), and, if there, `attention_mask` (batch, frames
 * or samples). Gives `encoder_last_hidden_state` (batch, hidden frames, hidden), zero in padded frames; for CTC also `logits` and
 * `tokens`, the best token of each frame (the blank in padded ones); for transducers `tokens`, the steps of greedy decoding after
 * the blank that begins it, blanks behind; for Whisper, given `decoder_input_ids` (batch, tokens), `logits` and `tokens`, the best
 * token after each of them. Whisper's `input_features` are (batch, mel bins, frames).
 * @throws UsmLiteError BAD_CHECKPOINT when the input lacks a tensor or has one of another shape
 */
export function paddedForward(
  network: SpeechNetwork,
  input: TensorFile,
  { attentionMask = true, device = "cpu" }: PaddedForwardOptions = {},
): Entries {
  return tidy(() => {
    const onCpu = readPaddedBatch(network, input, attentionMask);
    const batch = { ...onCpu, features: featuresOnDevice(onCpu.features, device) };
    if (network.kind === "ctc") return ctcForward(network, batch);
    return network.kind === "transducer" ? transducerForward(network, batch) : sequenceForward(network, batch, input);
  });
}

function ctcForward(network: CtcNetwork, batch: Batch): Entries {
  const { hidden, logits, offsets } = network.forward(batch.features, batch.offsets);
  const padded = paddedEntry(logits, offsets, batch);
  const tokens = bestTokens(padded.data as Float32Array, padded.shape, offsets.lengths, network.blankId);
  return [
    ["encoder_last_hidden_state", paddedEntry(hidden, offsets, batch)],
    ["logits", padded],
    ["tokens", { dtype: "I64", shape: [batch.size, batch.hiddenFrames], data: tokens }],
  ];
}

function transducerForward(network: TransducerNetwork, batch: Batch): Entries {
  const { hidden, projected, offsets } = network.encode(batch.features, batch.offsets);
  const inputs = offsets.lengths.map((frames, item) => {
    const begin = offsets.begin(item);
    const rows = projected.rows(begin, begin + frames);
    return rows instanceof DeviceTensor ? { values: new Float32Array(0), frames, onGpu: rows } : { values: rows.toArray(), frames };
  });
  const paths = transducerGreedy(network, inputs);
  const steps = 1 + Math.max(...paths.map((path) => path.steps.length));
  const tokens = new BigInt64Array(batch.size * steps).fill(BigInt(network.blankId));
  paths.forEach((path, item) => path.steps.forEach(({ id }, step) => (tokens[item * steps + 1 + step] = BigInt(id))));
  return [
    ["encoder_last_hidden_state", paddedEntry(hidden, offsets, batch)],
    ["tokens", { dtype: "I64", shape: [batch.size, steps], data: tokens }],
  ];
}

function sequenceForward(network: SequenceToSequenceNetwork, batch: Batch, input: TensorFile): Entries {
  const encoded = network.encode(batch.features, batch.offsets);
  const entries: Entries = [["encoder_last_hidden_state", paddedEntry(encoded.hidden, encoded.offsets, batch)]];
  if (!input.has("decoder_input_ids")) return entries;
  const [size, length = 0] = input.shape("decoder_input_ids");
  const ids = [...input.values("decoder_input_ids")];
  if (size !== batch.size || length === 0 || ids.some((id) => id < 0 || id >= network.vocabularySize)) {
    throw new UsmLiteError(
      "BAD_CHECKPOINT",
      `${input.path}: decoder_input_ids must be ids below ${network.vocabularySize} of shape (${batch.size}, tokens)`,
    );
  }
  using memory = network.remember(encoded);
  using session = network.session(memory);
  const { hidden } = session.advance(
    Array.from({ length: size }, (_, item) => ({ past: [], tokens: ids.slice(item * length, (item + 1) * length), item })),
  );
  const logits = network.scores(hidden).toArray();
  const shape = [size, length, network.vocabularySize];
  return [
    ...entries,
    ["logits", { dtype: "F32", shape, data: logits }],
    ["tokens", { dtype: "I64", shape: [size, length], data: bestTokens(logits, shape, new Array<number>(size).fill(length), 0) }],
  ];
}

/** (batch, mel bins, frames) as (batch, frames, mel bins), which is how Whisper's features are not laid out. */
function framesFirst(values: Float32Array, [size, bins, frames]: readonly [number, number, number]): Float32Array {
  const turned = new Float32Array(values.length);
  for (let item = 0; item < size; item++) {
    for (let bin = 0; bin < bins; bin++) {
      for (let frame = 0; frame < frames; frame++) {
        turned[(item * frames + frame) * bins + bin] = values[(item * bins + bin) * frames + frame] as number;
      }
    }
  }
  return turned;
}

/**
 * The inputs that {@link paddedForward} describes, without their padding.
 * @throws UsmLiteError BAD_CHECKPOINT when the input lacks a tensor or has one of another shape
 */
export function readPaddedBatch(network: SpeechNetwork, input: TensorFile, attentionMask = true): Batch {
  const { featureSize } = network;
  const samples = featureSize === 1;
  const name = samples ? "input_values" : "input_features";
  const fail = (problem: string): never => {
    throw new UsmLiteError("BAD_CHECKPOINT", `${input.path}: ${problem}`);
  };
  if (!input.has(name)) fail(`has no tensor "${name}", which this model takes`);
  const turned = network.kind === "sequence-to-sequence" && network.fixedWindow;
  const stored = input.shape(name);
  const shape = turned && stored.length === 3 ? [stored[0] as number, stored[2] as number, stored[1] as number] : stored;
  const [size, frames] = shape;
  if (size === undefined || frames === undefined || shape.length !== (samples ? 2 : 3) || (!samples && shape[2] !== featureSize)) {
    return fail(`${name} has shape (${shape.join(", ")}); the model takes (batch, ${samples ? "samples" : `frames, ${featureSize}`})`);
  }
  const read = input.values(name);
  if (!(read instanceof Float32Array)) return fail(`${name} has dtype ${input.dtype(name)}; it must be F32, F16 or BF16`);
  const values = turned ? framesFirst(read, stored as [number, number, number]) : read;
  const lengths = attentionMask && !turned ? maskedLengths(input, size, frames) : new Array<number>(size).fill(frames);
  const offsets = new SequenceOffsets(lengths);
  const packed = new Float32Array(offsets.frames * featureSize);
  lengths.forEach((length, item) => {
    const begin = item * frames * featureSize;
    packed.set(values.subarray(begin, begin + length * featureSize), offsets.begin(item) * featureSize);
  });
  return { features: Tensor.from(packed, [offsets.frames, featureSize]), offsets, size, hiddenFrames: network.hiddenFrames(frames) };
}

/** Rows of packed sequences as (batch, hidden frames, width). */
function paddedEntry(
  tensor: Tensor,
  offsets: SequenceOffsets,
  { size, hiddenFrames }: Batch,
): { dtype: "F32"; shape: number[]; data: Float32Array } {
  const width = tensor.dim(1);
  const source = tensor.toArray();
  const data = new Float32Array(size * hiddenFrames * width);
  offsets.lengths.forEach((length, item) => {
    const begin = offsets.begin(item) * width;
    data.set(source.subarray(begin, begin + length * width), item * hiddenFrames * width);
  });
  return { dtype: "F32", shape: [size, hiddenFrames, width], data };
}

function maskedLengths(input: TensorFile, batch: number, frames: number): number[] {
  if (!input.has("attention_mask")) return Array.from({ length: batch }, () => frames);
  const shape = input.shape("attention_mask");
  if (shape.length !== 2 || shape[0] !== batch || shape[1] !== frames) {
    throw new UsmLiteError("BAD_CHECKPOINT", `${input.path}: attention_mask must have shape (${batch}, ${frames})`);
  }
  const mask = input.values("attention_mask");
  return Array.from({ length: batch }, (_, item) => {
    const row = mask.subarray(item * frames, (item + 1) * frames);
    const length = row.findIndex((value) => value === 0);
    return length < 0 ? frames : length;
  });
}

function bestTokens(logits: Float32Array, shape: readonly number[], lengths: readonly number[], padding: number): BigInt64Array {
  const [batch, frames, vocabulary] = shape as [number, number, number];
  const tokens = new BigInt64Array(batch * frames).fill(BigInt(padding));
  lengths.forEach((length, item) => {
    for (let frame = 0; frame < length; frame++) {
      const begin = (item * frames + frame) * vocabulary;
      let best = 0;
      for (let token = 1; token < vocabulary; token++) {
        if ((logits[begin + token] as number) > (logits[begin + best] as number)) best = token;
      }
      tokens[item * frames + frame] = BigInt(best);
    }
  });
  return tokens;
}
