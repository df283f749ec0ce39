/** What smoothing keeps of the inputs of linear layers: the largest magnitude of each channel. */
import { UsmLiteError } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Keeps `max |x_j|` over the frames that linear layers are given; {@link InputMaxima.observe} is the `observeInput` of a forward pass.
 *
 * @example
 * const inputs = new InputMaxima(["encoder.layers.0.self_attn.q_proj.weight"]);
 * tidy(() => network.forward(features, offsets, { observeInput: inputs.observe }));
 * const largest = inputs.of("encoder.layers.0.self_attn.q_proj.weight"); // one for each input
 */
export class InputMaxima {
  private readonly names: ReadonlySet<string>;
  private readonly maxima = new Map<string, Float32Array>();

  /** @param names weights whose layers are watched */
  constructor(names: Iterable<string>) {
    this.names = new Set(names);
  }

  /** @param x (frames, in) */
  readonly observe = (name: string, x: Tensor): void => {
    if (!this.names.has(name)) return;
    const width = x.dim(1);
    const maxima = this.maxima.get(name) ?? new Float32Array(width);
    this.maxima.set(name, maxima);
    const values = x.toArray();
    for (let first = 0; first < values.length; first += width) {
      // The maximum of NaN and anything is NaN, so that it comes to light where the maxima are used.
      for (let j = 0; j < width; j++) maxima[j] = Math.max(maxima[j] as number, Math.abs(values[first + j] as number));
    }
  };

  /**
   * The maxima of a layer so far, (in).
   * @throws UsmLiteError INVALID_ARGUMENT when no forward pass has come by the layer
   */
  of(name: string): Float32Array {
    const maxima = this.maxima.get(name);
    if (maxima) return maxima;
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `calibration saw no input of "${name}"; it sees those of linear layers that the forward pass comes by`,
    );
  }
}
