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

/** Of a weight that is not compressed. */
export const floatSpec = parseWeightSpec("float32");

const codingParts = ["mask", "scale", "zeroPoint"] as const;

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
   * Changes a weight: `weight` overwrites the parameter, the other tensors are copied. What belonged to the weight, mask or spec of before
   * goes with it, as {@link changedLayer} says.
   */
  update(name: string, change: Partial<LayerState>): void {
    const before = this.layer(name);
    const { weight, spec, ...coding } = changedLayer(before, change);
    if (weight !== before.weight) before.weight.write(weight.toArray());
    if (spec.text === floatSpec.text) this.specs.delete(name);
    else this.specs.set(name, spec);
    const parts = codingParts.flatMap((key) => {
      const tensor = coding[key];
      return tensor ? [[key, tensor === before[key] ? tensor : keep(tensor.clone())] as const] : [];
    });
    const kept = new Set<Tensor>(parts.map(([, tensor]) => tensor));
    for (const key of codingParts) if (before[key] && !kept.has(before[key])) before[key].dispose();
    const { activations } = coding;
    this.codings.set(name, { ...(Object.fromEntries(parts) as LayerCoding), ...(activations ? { activations } : {}) });
  }

  /** Weights stay as they are; specs, masks, scales and activations of all of them are gone. */
  forgetCodings(): void {
    this.dispose();
    this.codings.clear();
    this.specs.clear();
  }

  dispose(): void {
    for (const { mask, scale, zeroPoint } of this.codings.values()) for (const tensor of [mask, scale, zeroPoint]) tensor?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * A weight after a change. What the change does not name stays, but for what cannot: the mask where N:M is another one; scale and zero
 * point where weight, mask or spec are others than those that they were measured of; activations where the weight is float now.
 */
export function changedLayer(before: LayerState, change: Partial<LayerState>): LayerState {
  const { weight = before.weight, spec = before.spec } = change;
  const { kept, of } = before.spec.sparsity ?? {};
  const samePattern = spec.sparsity?.kept === kept && spec.sparsity?.of === of;
  const mask = change.mask ?? (samePattern ? before.mask : undefined);
  const measured = change.weight !== undefined || spec.text !== before.spec.text || mask !== before.mask || change.scale !== undefined;
  const { scale, zeroPoint } = measured ? change : before;
  const activations = spec.bits === floatSpec.bits ? undefined : (change.activations ?? before.activations);
  return {
    weight,
    spec,
    ...(mask ? { mask } : {}),
    ...(scale ? { scale } : {}),
    ...(zeroPoint ? { zeroPoint } : {}),
    ...(activations ? { activations } : {}),
  };
}
