/** The model that adapters are for. */
import { basename, resolve } from "node:path";
import type { SpeechModel } from "../models/model_folder.js";
import { adaptableLayers } from "./adaptable_layers.js";
import { baseChecksum } from "./base_checksum.js";

/**
 * The model that adapters belong to: the layers that may be adapted, and a checksum of its weights.
 *
 * @example
 * const base = new AdapterBase(loadModel("packed"));
 * base.layers.size; // layers that an adapter may be added to
 */
export class AdapterBase {
  /** (out, in) of the layers that may be adapted, by weight name. */
  readonly layers: ReadonlyMap<string, readonly [out: number, input: number]>;
  private computed: string | undefined;

  constructor(private readonly model: SpeechModel) {
    this.layers = adaptableLayers(model);
  }

  get folder(): string {
    return this.model.folder;
  }

  get name(): string {
    return basename(resolve(this.model.folder));
  }

  /** {@link baseChecksum} of the model's folder. */
  get checksum(): string {
    return (this.computed ??= baseChecksum(this.model.folder, this.model.language));
  }

  /** Whether a layer is a pointwise convolution (out, in, 1). */
  isConvolution(weight: string): boolean {
    return this.model.linearShapes.get(weight)?.length === 3;
  }
}
