/** The network on a padded batch, as transformers runs it: input and output of `usm-lite forward`. */
import type { SafetensorsFile, SafetensorsEntry } from "../checkpoint/safetensors.js";
import { UsmLiteError } from "../errors.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { LasrForCtc } from "./lasr/lasr_for_ctc.js";

/**
 * Reads `input_features` (batch, frames, mel bins) and, if there, `attention_mask` (batch, frames); gives
 * `encoder_last_hidden_state` and `logits` (batch, hidden frames, ..), zero in padded frames, and `tokens`, the best
 * token of each frame (0 in padded ones).
 * @throws UsmLiteError BAD_CHECKPOINT when the input lacks a tensor or has one of another shape
 */
export function paddedForward(network: LasrForCtc, input: SafetensorsFile): [string, SafetensorsEntry][] {
  const melBins = network.config.encoder_config.num_mel_bins;
  const [batch, frames, bins] = input.shape("input_features");
  if (batch === undefined || frames === undefined || bins !== melBins || input.shape("input_features").length !== 3) {
    throw new UsmLiteError(
      "BAD_CHECKPOINT",
      `${input.path}: input_features has shape (${input.shape("input_features").join(", ")}); ` +
        `the model takes (batch, frames, ${melBins})`,
    );
  }
  const values = input.values("input_features");
  if (!(values instanceof Float32Array)) {
    throw new UsmLiteError(
      "BAD_CHECKPOINT",
      `${input.path}: input_features has dtype ${input.dtype("input_features")}; it must be F32, F16 or BF16`,
    );
  }
  const lengths = maskedLengths(input, batch, frames);

  return tidy(() => {
    const rows = lengths.map((length, item) => values.subarray(item * frames * bins, (item * frames + length) * bins));
    const offsets = new SequenceOffsets(lengths);
    const packed = new Float32Array(offsets.frames * bins);
    rows.forEach((row, item) => packed.set(row, offsets.begin(item) * bins));
    const result = network.forward(Tensor.from(packed, [offsets.frames, bins]), offsets);

    const hiddenFrames = network.encoder.subsampler.outputLength(frames);
    const pad = (tensor: Tensor): Float32Array => {
      const width = tensor.dim(1);
      const source = tensor.toArray();
      const padded = new Float32Array(batch * hiddenFrames * width);
      result.offsets.lengths.forEach((length, item) => {
        const begin = result.offsets.begin(item) * width;
        padded.set(source.subarray(begin, begin + length * width), item * hiddenFrames * width);
      });
      return padded;
    };
    const entry = (tensor: Tensor): SafetensorsEntry => ({
      dtype: "F32",
      shape: [batch, hiddenFrames, tensor.dim(1)],
      data: pad(tensor),
    });
    const logits = entry(result.logits);
    return [
      ["encoder_last_hidden_state", entry(result.hidden)],
      ["logits", logits],
      ["tokens", bestTokens(pad(result.logits), [batch, hiddenFrames, result.logits.dim(1)], result.offsets.lengths)],
    ];
  });
}

function maskedLengths(input: SafetensorsFile, batch: number, frames: number): number[] {
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

function bestTokens(logits: Float32Array, shape: readonly number[], lengths: readonly number[]): SafetensorsEntry {
  const [batch, frames, vocabulary] = shape as [number, number, number];
  const tokens = new BigInt64Array(batch * frames);
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
  return { dtype: "I64", shape: [batch, frames], data: tokens };
}
