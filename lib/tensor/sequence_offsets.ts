/** Batches without padding: the frames of all sequences lie one after another in one (frames, features) tensor. */
import { UsmLiteError } from "../errors.js";
import { Tensor } from "./tensor.js";

/**
 * Where each sequence of a packed batch begins and ends. Every operation that looks across frames takes one; all
 * others work on the rows alone, so no arithmetic is spent on padding and no result depends on the rest of the batch.
 *
 * @example
 * const offsets = new SequenceOffsets([120, 75]); // rows 0 to 119 are the first sequence, 120 to 194 the second
 */
export class SequenceOffsets {
  /** int32 (sequences + 1): first row of each sequence, then the number of rows. */
  readonly tensor: Tensor;
  /** Number of rows of all sequences. */
  readonly frames: number;

  constructor(readonly lengths: readonly number[]) {
    if (lengths.length === 0 || lengths.some((length) => !Number.isInteger(length) || length < 0)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `sequence lengths must be whole numbers from 0, got [${lengths.join(", ")}]`);
    }
    const offsets = new Int32Array(lengths.length + 1);
    lengths.forEach((length, index) => (offsets[index + 1] = (offsets[index] as number) + length));
    this.frames = offsets[lengths.length] as number;
    this.tensor = Tensor.from(offsets);
  }

  /** First row of sequence `index`. */
  begin(index: number): number {
    return this.lengths.slice(0, index).reduce((sum, length) => sum + length, 0);
  }
}
