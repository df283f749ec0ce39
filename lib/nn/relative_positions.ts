/** Sinusoidal embeddings of the distance between two frames (Dai et al. 2019), as the Conformers of NeMo use them. */
import { onDevice } from "../device/placement.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import type { Linear } from "./linear.js";

/** Embeddings of distances: row n belongs to the distance `origin - n` between a frame and the frame that it sees. */
export interface PositionTable {
  /** (distances, hidden) */
  readonly embeddings: Tensor;
  readonly origin: number;
  /** What layers make of the embeddings, (distances, out), where that was made at once. */
  readonly keys?: ReadonlyMap<Linear, Tensor>;
}

// With more distances the product of a single layer has work for all multiprocessors of a GPU.
const maximumJoinedDistances = 1024;

/** Makes tables, and remembers the longest. */
export class RelativePositions {
  /** By device. */
  private readonly tables = new Map<Tensor["device"], { readonly table: Tensor; readonly reach: number }>();

  private readonly joined: JoinedLinears<readonly Linear[]>;

  /** @param layers that the embeddings go into, of all blocks */
  constructor(
    private readonly hidden: number,
    private readonly layers: readonly Linear[],
  ) {
    this.joined = new JoinedLinears(layers);
  }

  /**
   * For distances from `before` down to `-after`. What it returns shares memory with this object.
   * @param device where the table is to be
   */
  forDistances(before: number, after: number, device: Tensor["device"] = "cpu"): PositionTable {
    const { table, reach } = this.tableFor(Math.max(before, after), device);
    return { embeddings: table.rows(reach - before, reach + after + 1), origin: before };
  }

  /** `positions`, with their keys where all blocks can have them from one product. */
  withKeys(positions: PositionTable, context: ForwardContext): PositionTable {
    const { embeddings } = positions;
    const keys = embeddings.dim(0) <= maximumJoinedDistances ? this.joined.together(embeddings, context) : undefined;
    return keys ? { ...positions, keys: new Map(this.layers.map((layer, index) => [layer, keys[index] as Tensor])) } : positions;
  }

  dispose(): void {
    for (const { table } of this.tables.values()) table.dispose();
    this.tables.clear();
  }

  private tableFor(reach: number, device: Tensor["device"]): { readonly table: Tensor; readonly reach: number } {
    const known = this.tables.get(device);
    if (known && known.reach >= reach) return known;
    known?.table.dispose();
    const made = { table: keep(tidy(() => onDevice(sinusoids(reach, this.hidden), device))), reach };
    this.tables.set(device, made);
    return made;
  }
}

/** (2 reach + 1, hidden) for distances reach .. -reach: sin and cos of d / 10000^(i / hidden) in turn, i = 0, 2, .. */
function sinusoids(reach: number, hidden: number): Tensor {
  const rows = 2 * reach + 1;
  const values = new Float32Array(rows * hidden);
  const pairs = Math.ceil(hidden / 2);
  const frequencies = Float32Array.from({ length: pairs }, (_, pair) => 1 / 10_000 ** ((2 * pair) / hidden));
  for (let row = 0; row < rows; row++) {
    for (let pair = 0; pair < pairs; pair++) {
      const angle = Math.fround((reach - row) * (frequencies[pair] as number));
      values[row * hidden + 2 * pair] = Math.sin(angle);
      if (2 * pair + 1 < hidden) values[row * hidden + 2 * pair + 1] = Math.cos(angle);
    }
  }
  return Tensor.from(values, [rows, hidden]);
}
