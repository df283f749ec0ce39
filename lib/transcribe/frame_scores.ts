/** What the network says of the frames of one forward pass, as each chunk wants it: copied to the CPU, or left on the GPU. */
import type { bestPath } from "../decode/ctc_greedy.js";
import { frameRows, type FrameRows } from "../decode/frame_rows.js";
import { deviceCtcBestPath } from "../device/ctc_best_path.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { PendingDownload } from "../device/pending_download.js";
import { UsmLiteError } from "../errors.js";
import type { CtcNetwork, TransducerNetwork } from "../models/speech_network.js";
import { logSoftmax } from "../ops/softmax.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ForwardChunk } from "./passes.js";

type Wanted = Pick<ForwardChunk, "bestPath" | "staysOnGpu">;

/** Rows that are on their way: waits for them. */
export type PendingRows = () => FrameRows;

/** Frames [begin, end) of a pass, as their chunk wants them. Rows that stay on the GPU belong to whoever asks, outside of scopes. */
export type PassFrames = (wanted: Wanted, begin: number, end: number) => PendingRows;

/** Log-probabilities, or of chunks that want no more the best path ({@link bestPath}). @throws UsmLiteError BAD_CHECKPOINT */
export function ctcFrames(logits: Tensor, { blankId }: CtcNetwork, wanted: readonly Wanted[], folder: string): PassFrames {
  const takesBestPath = (chunk: Wanted): boolean => logits instanceof DeviceTensor && chunk.bestPath === true;
  const best = wanted.some(takesBestPath) ? pendingFloats(deviceCtcBestPath(logits as DeviceTensor, blankId)) : undefined;
  const all = wanted.every(takesBestPath) ? undefined : checkedScores(floatsOf(logSoftmax(logits)), folder);
  return (chunk, begin, end) => () => copiedRows((takesBestPath(chunk) ? best?.() : all) as FrameRows, begin, end);
}

/** What the joint network takes: rows of the GPU where a chunk wants them left there and `network` decodes there, otherwise floats. */
export function transducerFrames(projected: Tensor, network: TransducerNetwork, wanted: readonly Wanted[]): PassFrames {
  const onGpu = projected instanceof DeviceTensor && network.decoderOnGpu ? projected : undefined;
  const stays = (chunk: Wanted): boolean => onGpu !== undefined && chunk.staysOnGpu === true;
  const left: FrameRows = { values: new Float32Array(0), onGpu, frames: projected.dim(0), tokens: projected.dim(1) };
  const floats = wanted.every(stays) ? undefined : floatsOf(projected);
  return (chunk, begin, end) => {
    if (!stays(chunk)) return () => copiedRows(floats as FrameRows, begin, end);
    const rows = frameRows(left, begin, end);
    keep(rows.onGpu as DeviceTensor);
    return () => rows;
  };
}

/** Waits where it comes from the GPU. */
const floatsOf = (output: Tensor): FrameRows => ({ values: output.toArray(), frames: output.dim(0), tokens: output.dim(1) });

/** Floats of the GPU that are copied while it goes on. */
function pendingFloats(output: DeviceTensor): PendingRows {
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

/** Log-probabilities, checked: one score of a row that is no number, and the row has none. @throws UsmLiteError BAD_CHECKPOINT */
function checkedScores(scores: FrameRows, folder: string): FrameRows {
  const { values, tokens } = scores;
  for (let first = 0; first < values.length; first += tokens) {
    if (Number.isNaN(values[first])) {
      throw new UsmLiteError(
        "BAD_CHECKPOINT",
        `the scores of frame ${first / tokens} are not numbers: the weights of ${folder} are too large to compute with, or damaged`,
      );
    }
  }
  return scores;
}
