/** What calibration keeps of the inputs of linear layers: their second moments, of a size that no number of frames changes. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { keep } from "../tensor/scope.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface ProductBindings {
  matmul(a: TensorHandle, transposeA: boolean, b: TensorHandle, transposeB: boolean, scale: number, sum: TensorHandle): void;
}

const native = addon as ProductBindings;

/** Second moments of the inputs of one layer. */
export interface LayerInputs {
  /** float32 (in, in): the sum over frames of x·xᵀ. */
  readonly moments: Tensor;
  /** Frames summed over. */
  readonly frames: number;
}

interface Sum {
  readonly moments: Tensor;
  frames: number;
}

/**
 * Sums `x·xᵀ` over the frames that linear layers are given; {@link InputMoments.observe} is the `observeInput` of a forward
 * pass. Layers that are given the same tensor, as the projections of attention are, share a sum.
 *
 * @example
 * using inputs = new InputMoments(["encoder.layers.0.self_attn.q_proj.weight"]);
 * tidy(() => network.forward(features, offsets, { observeInput: inputs.observe }));
 * const { moments, frames } = inputs.of("encoder.layers.0.self_attn.q_proj.weight");
 */
export class InputMoments implements Disposable {
  private readonly names: ReadonlySet<string>;
  private readonly sums = new Map<string, Sum>();
  private last: { readonly x: Tensor; readonly sum: Sum } | undefined;

  /** @param names weights whose layers are watched */
  constructor(names: Iterable<string>) {
    this.names = new Set(names);
  }

  readonly observe = (name: string, x: Tensor): void => {
    if (!this.names.has(name)) return;
    const known = this.sums.get(name);
    const shared = this.last?.x === x && (known === undefined || known === this.last.sum);
    const sum = shared ? (this.last as { sum: Sum }).sum : (known ?? { moments: keep(Tensor.zeros([x.dim(1), x.dim(1)])), frames: 0 });
    this.sums.set(name, sum);
    if (shared) return;
    native.matmul(x.handle, true, x.handle, false, 1, sum.moments.handle);
    sum.frames += x.dim(0);
    this.last = { x, sum };
  };

  /**
   * The sums of a layer so far.
   * @throws UsmLiteError INVALID_ARGUMENT when no forward pass has come by the layer
   */
  of(name: string): LayerInputs {
    const sum = this.sums.get(name);
    if (sum && sum.frames > 0) return sum;
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `calibration saw no input of "${name}"; it sees those of linear layers: leave convolutions with a kernel to round-to-nearest`,
    );
  }

  dispose(): void {
    for (const { moments } of this.sums.values()) moments.dispose();
    this.sums.clear();
    this.last = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * float32 (in): the mean square of each input.
 *
 * @example
 * meanSquares(inputs.of(layer.name)).toArray(); // one for each input
 */
export function meanSquares({ moments, frames }: LayerInputs): Tensor {
  const size = moments.dim(0);
  const values = moments.toArray();
  return Tensor.from(Float32Array.from({ length: size }, (_, i) => (values[i * size + i] as number) / frames));
}
