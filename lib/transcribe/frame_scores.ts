/** What the network says of the frames of one forward pass, as each chunk wants it: copied to the CPU, or left on the GPU. */
import type { Adapter } from "../adapt/adapter.js";
import type { bestPath } from "../decode/ctc_greedy.js";
import { frameRows, type FrameRows } from "../decode/frame_rows.js";
import { deviceCtcBestPath } from "../device/ctc_best_path.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { PendingDownload } from "../device/pending_download.js";
import { UsmLiteError } from "../errors.js";
import type { CtcNetwork, TransducerNetwork } from "../models/speech_network.js";
import { logSoftmax } from "../ops/softmax.js";
import type { Outcome } from "../outcome.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ForwardChunk } from "./passes.js";

type Wanted = Pick<ForwardChunk, "adapter" | "bestPath" | "staysOnGpu">;

/** Rows that are on their way: waits for them. An error where they are not numbers: those of other chunks may be. */
export type PendingRows = () => Outcome<FrameRows>;

/** Frames [begin, end) of a pass, as their chunk wants them. Rows that stay on the GPU belong to whoever asks, outside of scopes. */
export type PassFrames = (wanted: Wanted, begin: number, end: number) => PendingRows;

/** Log-probabilities, or of chunks that want no more the best path ({@link bestPath}). */
export function ctcFrames(logits: Tensor, { blankId }: CtcNetwork, wanted: readonly Wanted[], folder: string): PassFrames {
  const takesBestPath = (chunk: Wanted): boolean => logits instanceof DeviceTensor && chunk.bestPath === true;
  const best = wanted.some(takesBestPath) ? pendingFloats(deviceCtcBestPath(logits as DeviceTensor, blankId)) : undefined;
  const all = wanted.every(takesBestPath) ? undefined : floatsOf(logSoftmax(logits));
  return (chunk, begin, end) => () => {
    const isBest = takesBestPath(chunk);
    const rows = copiedRows((isBest ? best?.() : all) as FrameRows, begin, end);
    return checkedRows(rows, isBest ? bestPathProbability : 0, chunk, folder);
  };
}

/** What the joint network takes: rows of the GPU where a chunk wants them left there and `network` decodes there, otherwise floats. */
export function transducerFrames(projected: Tensor, network: TransducerNetwork, wanted: readonly Wanted[], folder: string): PassFrames {
  const onGpu = projected instanceof DeviceTensor && network.decoderOnGpu ? projected : undefined;
  const stays = (chunk: Wanted): boolean => onGpu !== undefined && chunk.staysOnGpu === true;
  const left: FrameRows = { values: new Float32Array(0), onGpu, frames: projected.dim(0), tokens: projected.dim(1) };
  const floats = wanted.every(stays) ? undefined : floatsOf(projected);
  return (chunk, begin, end) => {
    if (!stays(chunk)) return () => checkedRows(copiedRows(floats as FrameRows, begin, end), 0, chunk, folder);
    const rows = frameRows(left, begin, end);
    keep(rows.onGpu as DeviceTensor);
    return () => rows;
  };
}

/** Waits where it comes from the GPU. */
const floatsOf = (output: Tensor): FrameRows => ({ values: output.toArray(), frames: output.dim(0), tokens: output.dim(1) });

/** Floats of the GPU that are copied while it goes on. */
function pendingFloats(output: DeviceTensor): () => FrameRows {
  const [frames, tokens] = [output.dim(0), output.dim(1)];
  if (frames === 0) return () => ({ values: new Float32Array(0), frames, tokens });
  const download = new PendingDownload(output.size);
  download.begin(output);
  let values: Float32Array | undefined;
  return () => {
    values ??= download.take().slice();
    download.dispose();
    return { values, frames, tokens };
  };
}

/** Rows that do not keep all others in memory. */
function copiedRows(all: FrameRows, begin: number, end: number): FrameRows {
  const rows = frameRows(all, begin, end);
  return { ...rows, values: rows.values.slice() };
}

/** Column of the best path that says how probable it is. */
const bestPathProbability = 1;

/**
 * What makes one number of a row no number makes none of them one.
 * @param column of those that would show it
 * @returns BAD_ADAPTER where there is an adapter: weights of the model are finite, or it would not have been loaded; BAD_CHECKPOINT where
 *   there is none
 */
function checkedRows(rows: FrameRows, column: number, { adapter }: Wanted, folder: string): Outcome<FrameRows> {
  const { values, frames, tokens } = rows;
  for (let frame = 0; frame < frames; frame++) {
    if (!Number.isNaN(values[frame * tokens + column])) continue;
    const what = `the scores of frame ${frame} of a chunk are not numbers`;
    return scoresTooLarge(what, { adapter, folder });
  }
  return rows;
}

/** The error for scores that are not numbers. @param what says which they are */
export const scoresTooLarge = (what: string, { adapter, folder }: { adapter: Adapter | undefined; folder: string }): UsmLiteError =>
  adapter
    ? adapterTooLarge(what)
    : new UsmLiteError("BAD_CHECKPOINT", `${what}: the weights of ${folder} are too large to compute with, or damaged`);

/** The error for an adapter whose factors are finite, but not what comes of them. @param what of it is not */
export const adapterTooLarge = (what: string): UsmLiteError =>
  new UsmLiteError("BAD_ADAPTER", `${what}: the factors of the speaker's adapter are too large to compute with`);
