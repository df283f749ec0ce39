/** Linear layers on the GPU, for inference. */
import { UsmLiteError } from "../errors.js";
import { isBatchInvariant } from "./batch_invariance.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import type { DeviceWeight, DeviceWeightHandle, IntegerActivations } from "./device_weight.js";
import { gpuAddon } from "./gpu.js";

/** `gelu` is x Φ(x); `glu` multiplies values with the sigmoids of their gates, for weights made with `glu: true`. */
export type DeviceActivation = "none" | "silu" | "relu" | "gelu" | "glu";

/** What {@link deviceLinear} may be told. */
export interface DeviceLinearOptions {
  /** Of {@link DeviceWeight.arrangeBias}. */
  bias?: DeviceTensor | undefined;
  /** "none" by default. */
  activation?: DeviceActivation;
  /** Factor of what the layer adds to the residual: 0.5 in a Conformer's feed-forward modules. */
  scale?: number;
  /** (tokens, outputs) of the result's type, added to it. */
  residual?: DeviceTensor | undefined;
  /** Factor of the residual; 1 by default. */
  residualScale?: number;
  /**
   * Whether a token's result must be the same bits however many tokens are multiplied at once; by default what the pass under way asks for, and
   * false outside of one. It is the same whatever the other tokens are in any case; without this, the number of tokens decides which kernel is used.
   */
  batchInvariant?: boolean;
  stream?: DeviceStream | undefined;
}

type RowCodes = IntegerActivations | "float8";

/** Rows of 8-bit codes with a scale for each: x = codes * scales; of `int8-asymmetric` x = codes * scales + offsets. */
export interface QuantizedRows {
  /** int8 or float8 (rows, columns) */
  readonly codes: DeviceTensor;
  /** float32 (rows); of `int8-asymmetric` (2, rows): scales, then offsets */
  readonly scales: DeviceTensor;
}

type LinearArguments = [
  x: DeviceTensorHandle,
  rowScales: DeviceTensorHandle | undefined,
  weight: DeviceWeightHandle,
  bias: DeviceTensorHandle | undefined,
  activation: DeviceActivation,
  scale: number,
  residual: DeviceTensorHandle | undefined,
  residualScale: number,
  batchInvariant: boolean,
  stream: StreamHandle | undefined,
];

interface DeviceLinearBindings {
  deviceLinear(...words: LinearArguments): DeviceTensorHandle;
  quantizeRows(x: DeviceTensorHandle, type: RowCodes, stream?: StreamHandle): [DeviceTensorHandle, DeviceTensorHandle];
}

const native = (): DeviceLinearBindings => gpuAddon<DeviceLinearBindings>();

/**
 * `residualScale * residual + scale * activation(x·Wᵀ + bias)`, (tokens, outputs), summed in float32 (whole numbers in
 * int32) and rounded once, to float16 where the weight's arithmetic is float16 and to bfloat16 otherwise.
 *
 * NaN and infinity in a token spread to its outputs, but for those of a sparse weight that have pruned the input.
 *
 * @param x (tokens, in): bfloat16 or float16, as the weight's arithmetic is. For arithmetic of 8 bits either type, whose rows
 * are rounded as {@link quantizeRows} does; or rows that were
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit; UNSUPPORTED_SPEC when there is no kernel for this
 * weight or GPU; OUT_OF_MEMORY; TENSOR_RELEASED
 *
 * @example
 * const y = deviceLinear(x, weight, { bias: weight.arrangeBias(bias), activation: "silu" });
 */
export function deviceLinear(x: DeviceTensor | QuantizedRows, weight: DeviceWeight, options: DeviceLinearOptions = {}): DeviceTensor {
  return new DeviceTensor(native().deviceLinear(...deviceLinearArguments(x, weight, options)));
}

/** What the addon is given for {@link deviceLinear}. */
export function deviceLinearArguments(
  x: DeviceTensor | QuantizedRows,
  weight: DeviceWeight,
  options: DeviceLinearOptions,
): LinearArguments {
  const { bias, activation = "none", scale = 1, residual, residualScale = 1, batchInvariant = isBatchInvariant(), stream } = options;
  const [codes, scales] = "codes" in x ? [x.codes, x.scales] : [x, undefined];
  return [
    codes.handle,
    scales?.handle,
    weight.handle,
    bias?.handle,
    activation,
    scale,
    residual?.handle,
    residualScale,
    batchInvariant,
    stream?.handle,
  ];
}

/**
 * Rounds every row to codes of 8 bits: `scale = max |x| / 127` (int8), `/ 7` (int4, whose codes lie in bytes) or `/ 448` (float8, e4m3),
 * `code = x / scale` to nearest, ties to even; of `int8-asymmetric` `scale = (max x - min x) / 254`, `code = (x - min x) / scale - 127`.
 * A row of zeros has scale 0 (asymmetric: a row of one value has that as its offset), one with NaN or infinity scale NaN.
 * @param x bfloat16 or float16 (rows, columns)
 * @throws UsmLiteError INVALID_ARGUMENT for another type or shape
 *
 * @example
 * const rows = quantizeRows(x, "int8"); // once for several weights
 * const [q, k] = [deviceLinear(rows, queryWeight), deviceLinear(rows, keyWeight)];
 */
export function quantizeRows(x: DeviceTensor, type: RowCodes, stream?: DeviceStream): QuantizedRows {
  if (x.shape.length !== 2) {
    throw new UsmLiteError("INVALID_ARGUMENT", `quantizeRows: x has shape (${x.shape.join(", ")}); it must have rows and columns`);
  }
  const [codes, scales] = native().quantizeRows(x.handle, type, stream?.handle);
  return { codes: new DeviceTensor(codes), scales: new DeviceTensor(scales) };
}
