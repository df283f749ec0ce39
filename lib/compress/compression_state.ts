/** What the stages of a recipe hand on: float weights, and of each compressed one its spec, mask and scales. */
import { UsmLiteError } from "../errors.js";
import type { ActivationCoding } from "../quant/activation_coding.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import { parseWeightSpec, type WeightSpec } from "../quant/weight_spec.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** One weight (out, in) or (out, in, kernel) between two stages. */
export interface LayerState extends LayerCoding {
  /** float32. Not multiplied by the mask, and need not lie on the grid: what a later stage may go on training. */
  readonly weight: Tensor;
  readonly spec: WeightSpec;
}

const floatSpec = parseWeightSpec("float32");

/** The state of all weights of a network, whose own parameters they are. */
export class CompressionState implements Disposable {
  private readonly codings = new Map<string, LayerCoding>();
  private readonly specs = new Map<string, WeightSpec>();

  constructor(readonly parameters: ReadonlyMap<string, Tensor>) {}

  /** Spec of each compressed weight so far; what is absent is float32. */
  get plan(): ReadonlyMap<string, WeightSpec> {
    return this.specs;
  }

  /** @throws UsmLiteError INVALID_ARGUMENT for a name that is no parameter */
  layer(name: string): LayerState {
    const weight = this.parameters.get(name);
    if (!weight) throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is no parameter of the model`);
    return { weight, spec: this.specs.get(name) ?? floatSpec, ...this.codings.get(name) };
  }

  /** Mask, scale and zero point of a weight, as far as they are known. */
  coding(name: string): LayerCoding {
    return this.codings.get(name) ?? {};
  }

  /** What weights are multiplied by, where a stage said it. */
  activations(names: Iterable<string>): ReadonlyMap<string, ActivationCoding> {
    const said = [...names].map((name) => [name, this.coding(name).activations] as const);
    return new Map(said.filter((entry): entry is [string, ActivationCoding] => entry[1] !== undefined));
  }

  /**
   * Changes a weight: `weight` overwrites the parameter, the other tensors are copied. A change of weight or spec without
   * a scale lets go of the scale, which belonged to what was there before.
   */
  update(name: string, change: Partial<LayerState>): void {
    const { weight, mask, scale, zeroPoint, spec, activations: before } = this.layer(name);
    const activations = change.activations ?? before;
    if (change.weight && change.weight !== weight) weight.write(change.weight.toArray());
    if (change.spec && change.spec.text !== "float32") this.specs.set(name, change.spec);
    else if (change.spec) this.specs.delete(name);
    const stale = change.weight !== undefined || (change.spec !== undefined && change.spec.text !== spec.text);
    const next: LayerCoding = {
      ...part("mask", change.mask, mask),
      ...part("scale", change.scale, stale ? undefined : scale),
      ...part("zeroPoint", change.zeroPoint, stale ? undefined : zeroPoint),
      ...(activations ? { activations } : {}),
    };
    for (const old of [mask, scale, zeroPoint]) if (old && old !== next.mask && old !== next.scale && old !== next.zeroPoint) old.dispose();
    this.codings.set(name, next);
  }

  dispose(): void {
    for (const { mask, scale, zeroPoint } of this.codings.values()) for (const tensor of [mask, scale, zeroPoint]) tensor?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The changed part, in memory of its own, or the one that was there. */
function part<Key extends keyof LayerCoding>(
  key: Key,
  changed: Tensor | undefined,
  before: Tensor | undefined,
): Pick<LayerCoding, Key> | object {
  if (changed && changed !== before) return { [key]: keep(changed.clone()) };
  return before ? { [key]: before } : {};
}
