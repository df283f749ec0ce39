/** Packed weights in the memory of the GPU, in the order in which its tensor cores take them. */
import type { ActivationCoding } from "../quant/activation_coding.js";
import { packedMatrixShape, partHandles, type PackedWeight, type PartHandles } from "../quant/packed_weight.js";
import { UsmLiteError } from "../errors.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

/**
 * What the tensor cores multiply. `bfloat16` and `float16`: the weights are widened on the way; `uint` formats and `midrise8` with another
 * sparsity than 2:4 lie as floats of 16 bits. `int8`: weights of whole numbers, by activations that are rounded row by row. `float8` (e4m3): float32 weights,
 * rounded with a scale per channel, by activations rounded likewise.
 */
export type Arithmetic = "bfloat16" | "float16" | "int8" | "float8";

/** What every row of activations is rounded to for int8 arithmetic. */
export type IntegerActivations = Exclude<ActivationCoding, "float32">;

/** The native object behind a weight on the GPU. */
export interface DeviceWeightHandle {
  readonly released: boolean;
  release(): void;
}

interface DeviceWeightBindings {
  deviceWeightCreate(
    arithmetic: Arithmetic,
    activations: IntegerActivations,
    glu: boolean,
    spec: string,
    rows: number,
    columns: number,
    ...parts: PartHandles
  ): DeviceWeightHandle;
  deviceIntegerWeight(spec: string, rows: number, columns: number, activations: IntegerActivations): DeviceWeightHandle;
  deviceWeightDescribe(weight: DeviceWeightHandle): WeightDescription;
  deviceWeightStack(weights: readonly DeviceWeightHandle[]): [whole: DeviceWeightHandle, ...parts: DeviceWeightHandle[]];
  deviceWeightRepeat(weight: DeviceWeightHandle, times: number): DeviceWeightHandle;
  deviceWeightShare(weight: DeviceWeightHandle): number;
  deviceWeightFromShared(id: number): DeviceWeightHandle;
  deviceWeightRead(weight: DeviceWeightHandle): ArrangedBytes;
  deviceWeightArrangeBias(weight: DeviceWeightHandle, bias: TensorHandle): DeviceTensorHandle;
}

interface WeightDescription {
  readonly spec: string;
  readonly rows: number;
  readonly columns: number;
  readonly arithmetic: Arithmetic;
  readonly activations: IntegerActivations;
  readonly glu: boolean;
  readonly bytes: number;
}

/** The bytes of a weight on the GPU; native/cuda/fragment_order.hpp describes them. */
export interface ArrangedBytes {
  readonly tiles: Uint8Array;
  readonly metadata: Uint8Array;
  /** 16-bit floats; with zero points three rows for each group */
  readonly groupScales: Uint8Array;
  /** float32 */
  readonly channelScales: Uint8Array;
  /** float32, of whole numbers in int8 arithmetic */
  readonly channelSums: Uint8Array;
  /** float32, of groups and of channels with zero points, in int8 arithmetic */
  readonly wholeScales: Uint8Array;
  /** float32 */
  readonly zeroPoints: Uint8Array;
  readonly kept: Uint8Array;
}

/** How {@link DeviceWeight.from} arranges a weight, and what it is multiplied in. */
export interface DeviceWeightOptions {
  /** "bfloat16" by default. */
  arithmetic?: Arithmetic;
  /** What int8 arithmetic rounds activations to; "int8" by default. Others do not round them. */
  activations?: IntegerActivations;
  /** The first half of the rows are values, the second half their gates: for the activation "glu" of {@link deviceLinear}. */
  glu?: boolean;
}

const native = (): DeviceWeightBindings => gpuAddon<DeviceWeightBindings>();

/**
 * One weight (out, in) on the GPU, immutable but for those of {@link DeviceWeight.ofIntegers}. Its memory is given back when the last
 * object that refers to it, in whatever worker, is disposed of. Scopes do not track it: dispose of it with the model it belongs to.
 *
 * @example
 * using packed = DeviceWeight.from(packWeight(Tensor.zeros([128, 64]), "int4+2:4"));
 * const y = deviceLinear(DeviceTensor.zeros([2, 64]), packed); // (2, 128)
 */
export class DeviceWeight implements Disposable {
  /** Canonical weight spec. */
  readonly spec: string;
  /** Output channels, gates included. */
  readonly rows: number;
  /** Inputs. */
  readonly columns: number;
  readonly arithmetic: Arithmetic;
  readonly activations: IntegerActivations;
  readonly glu: boolean;
  /** Bytes of GPU memory; counted once however many objects refer to it. Those of a stacked weight are those of its parts. */
  readonly bytes: number;

  /** This weight and those below it as one, and where they were then. */
  private kept: { readonly whole: DeviceWeight; readonly places: readonly DeviceWeightHandle[] } | undefined;

  private constructor(private place: DeviceWeightHandle) {
    const description = native().deviceWeightDescribe(place);
    ({ spec: this.spec, rows: this.rows, columns: this.columns, arithmetic: this.arithmetic } = description);
    ({ activations: this.activations, glu: this.glu, bytes: this.bytes } = description);
  }

  /**
   * Arranges a packed weight and copies it to the GPU.
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; UNSUPPORTED_SPEC when no kernel takes this spec in this
   * arithmetic (floats in int8, whole numbers in float8); BAD_CHECKPOINT when the parts do not fit together
   */
  static from(
    weight: PackedWeight,
    { arithmetic = "bfloat16", activations = "int8", glu = false }: DeviceWeightOptions = {},
  ): DeviceWeight {
    const [rows, columns] = packedMatrixShape(weight);
    return new DeviceWeight(native().deviceWeightCreate(arithmetic, activations, glu, weight.spec, rows, columns, ...partHandles(weight)));
  }

  /**
   * A weight for int8 arithmetic whose numbers come from training on the GPU, again and again: {@link deviceFillIntegerWeight}.
   * @param spec of whole numbers; sparse ones are multiplied as dense ones with zeros
   * @param columns a multiple of 8
   * @param activations what they are rounded to
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; UNSUPPORTED_SPEC for floats
   */
  static ofIntegers(spec: string, rows: number, columns: number, activations: IntegerActivations = "int8"): DeviceWeight {
    return new DeviceWeight(native().deviceIntegerWeight(spec, rows, columns, activations));
  }

  /**
   * The weight that another worker of this process shares as `id`.
   * @throws UsmLiteError INVALID_ARGUMENT when nobody keeps it any more
   */
  static fromShared(id: number): DeviceWeight {
    return new DeviceWeight(native().deviceWeightFromShared(id));
  }

  /** Whether {@link DeviceWeight.stack} takes these: of one spec, arithmetic and number of inputs, each with a multiple of 64 rows, none with `glu`. */
  static canStack(weights: readonly DeviceWeight[]): boolean {
    const [first] = weights;
    const alike = ["spec", "columns", "arithmetic", "activations"] as const;
    return (
      first !== undefined &&
      weights.every((weight) => !weight.glu && weight.rows % 64 === 0 && alike.every((key) => weight[key] === first[key]))
    );
  }

  /**
   * Weights one below the other, as one: its product is those with each of them, side by side. They share its memory from then on, to which they are
   * copied unless they lie there so already. Work that was recorded before and multiplies by them has to be recorded again.
   * @throws UsmLiteError INVALID_ARGUMENT where {@link DeviceWeight.canStack} says no; OUT_OF_MEMORY, TENSOR_RELEASED
   *
   * @example
   * using queryAndKey = DeviceWeight.stack([queryWeight, keyWeight]);
   * const y = deviceLinear(x, queryAndKey); // queries beside keys
   */
  static stack(weights: readonly DeviceWeight[]): DeviceWeight {
    if (!DeviceWeight.canStack(weights)) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        "DeviceWeight.stack takes weights of one spec, arithmetic and number of columns, each with a multiple of 64 rows and none with glu",
      );
    }
    const [whole, ...parts] = native().deviceWeightStack(weights.map(({ handle }) => handle));
    parts.forEach((part, index) => (weights[index] as DeviceWeight).moveTo(part));
    return new DeviceWeight(whole);
  }

  /**
   * The same, made once: the first weight keeps it until it is disposed of or one of them lies elsewhere. Not to be disposed of.
   * @throws UsmLiteError as {@link DeviceWeight.stack}
   */
  static stackOnce(weights: readonly DeviceWeight[]): DeviceWeight {
    const [first] = weights;
    const known = first?.kept;
    if (known && known.places.length === weights.length && weights.every(({ place }, index) => place === known.places[index])) return known.whole;
    const whole = DeviceWeight.stack(weights);
    first?.forgetStacked();
    if (first) first.kept = { whole, places: weights.map(({ place }) => place) };
    return whole;
  }

  /** The native object. */
  get handle(): DeviceWeightHandle {
    return this.place;
  }

  private moveTo(place: DeviceWeightHandle): void {
    this.forgetStacked();
    this.place.release();
    this.place = place;
  }

  /** A number to send to other workers. It keeps nothing alive: hold on to this object until they have called {@link DeviceWeight.fromShared}. */
  share(): number {
    return native().deviceWeightShare(this.handle);
  }

  /** Copies of this weight, one below the other, made on the GPU: large random weights in no time. `rows` a multiple of 64. */
  repeat(times: number): DeviceWeight {
    return new DeviceWeight(native().deviceWeightRepeat(this.handle, times));
  }

  /** Columns of a product with this weight: `rows`, or half of them with `glu`. */
  get outputs(): number {
    return this.glu ? this.rows / 2 : this.rows;
  }

  /**
   * A bias on the GPU in the order of this weight's channels, for {@link deviceLinear}.
   * @param bias float32 (rows)
   */
  arrangeBias(bias: Tensor): DeviceTensor {
    return new DeviceTensor(native().deviceWeightArrangeBias(this.handle, bias.handle));
  }

  /** A copy of what lies on the GPU. */
  read(): ArrangedBytes {
    return native().deviceWeightRead(this.handle);
  }

  get released(): boolean {
    return this.handle.released;
  }

  /** Waits for the GPU and gives the memory back. Safe to call twice. */
  dispose(): void {
    this.forgetStacked();
    this.handle.release();
  }

  private forgetStacked(): void {
    this.kept?.whole.dispose();
    this.kept = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
