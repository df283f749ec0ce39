/**
 * When each token was spoken, from where the decoder looked while it wrote it: the weights of some heads of its cross-attention,
 * smoothed, and the best monotonic path through them (dynamic time warping), as Whisper computes the times of words.
 */
import { matmul } from "../ops/matmul.js";
import { softmax } from "../ops/softmax.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";

/** Weights of one head: how much each token looked at each frame. */
export interface AttentionWeights {
  /** (tokens, frames) row major */
  readonly values: Float32Array;
  readonly tokens: number;
  readonly frames: number;
}

/**
 * `softmax(q k^T / sqrt(headDimension))` of one head.
 * @param query (tokens, heads * headDimension)
 * @param keys (frames, heads * headDimension)
 */
export function attentionWeights(query: Tensor, keys: Tensor, heads: number, head: number): AttentionWeights {
  const values = tidy(() => {
    const scale = (query.dim(1) / heads) ** -0.5;
    return softmax(matmul(headColumns(query, heads, head), headColumns(keys, heads, head), { transposeB: true, scale })).toArray();
  });
  return { values, tokens: query.dim(0), frames: keys.dim(0) };
}

/** Columns of one head, (rows, headDimension). */
function headColumns(x: Tensor, heads: number, head: number): Tensor {
  const [rows, width] = [x.dim(0), x.dim(1) / heads];
  const all = x.toArray();
  const part = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const begin = row * heads * width + head * width;
    part.set(all.subarray(begin, begin + width), row * width);
  }
  return Tensor.from(part, [rows, width]);
}

/**
 * The frame at which each token begins: never before that of the token before it.
 * @param heads weights of at least one head, all of the same tokens and at least as many frames as `frames`
 * @param frames those that hold speech; what lies behind them is left out
 * @param filterWidth odd number of frames of the median filter; Whisper's is 7
 */
export function tokenBegins(heads: readonly AttentionWeights[], frames: number, filterWidth: number): number[] {
  const tokens = (heads[0] as AttentionWeights).tokens;
  const mean = new Float64Array(tokens * frames);
  for (const head of heads) {
    const smooth = medianFiltered(standardized(head, frames), tokens, frames, filterWidth);
    smooth.forEach((value, index) => {
      mean[index] = (mean[index] as number) + value / heads.length;
    });
  }
  return warpedBegins(mean, tokens, frames);
}

/** Each frame's weights over the tokens, with mean 0 and deviation 1: what all tokens look at says nothing about any. */
function standardized({ values, tokens, frames: stride }: AttentionWeights, frames: number): Float64Array {
  const result = new Float64Array(tokens * frames);
  for (let frame = 0; frame < frames; frame++) {
    let sum = 0;
    let squares = 0;
    for (let token = 0; token < tokens; token++) sum += values[token * stride + frame] as number;
    const mean = sum / tokens;
    for (let token = 0; token < tokens; token++) squares += ((values[token * stride + frame] as number) - mean) ** 2;
    const deviation = Math.sqrt(squares / tokens);
    // A single token has no deviation: every frame is as good as another.
    if (deviation === 0) continue;
    for (let token = 0; token < tokens; token++)
      result[token * frames + frame] = ((values[token * stride + frame] as number) - mean) / deviation;
  }
  return result;
}

/** Median over neighbouring frames, mirrored at the edges. */
function medianFiltered(values: Float64Array, tokens: number, frames: number, width: number): Float64Array {
  const reach = width >> 1;
  if (reach === 0 || frames <= reach) return values;
  const mirrored = (frame: number): number => (frame < 0 ? -frame : frame >= frames ? 2 * (frames - 1) - frame : frame);
  const result = new Float64Array(values.length);
  const window = new Float64Array(width);
  for (let token = 0; token < tokens; token++) {
    for (let frame = 0; frame < frames; frame++) {
      for (let at = 0; at < width; at++) window[at] = values[token * frames + mirrored(frame + at - reach)] as number;
      window.sort();
      result[token * frames + frame] = window[reach] as number;
    }
  }
  return result;
}

// How a path came to a cell: from the token before at the frame before, from the token before, from the frame before.
const BOTH = 0;
const TOKEN = 1;
const FRAME = 2;

/** Dynamic time warping (Sakoe and Chiba 1978): the path from the first cell to the last of the highest sum. */
function warpedBegins(weights: Float64Array, tokens: number, frames: number): number[] {
  const steps = new Uint8Array(tokens * frames);
  let above = new Float64Array(frames + 1).fill(Infinity);
  above[0] = 0;
  for (let token = 0; token < tokens; token++) {
    const row = new Float64Array(frames + 1).fill(Infinity);
    for (let frame = 0; frame < frames; frame++) {
      const both = above[frame] as number;
      const onlyToken = above[frame + 1] as number;
      const onlyFrame = row[frame] as number;
      const least = Math.min(both, onlyToken, onlyFrame);
      steps[token * frames + frame] = least === onlyFrame ? FRAME : least === both ? BOTH : TOKEN;
      row[frame + 1] = least - (weights[token * frames + frame] as number);
    }
    above = row;
  }
  const begins = new Array<number>(tokens).fill(0);
  let [token, frame] = [tokens - 1, frames - 1];
  while (token >= 0) {
    begins[token] = frame;
    const step = steps[token * frames + frame];
    if (step !== TOKEN) frame--;
    if (step !== FRAME) token--;
  }
  return begins;
}
