/** What is known of how a weight is coded beyond its spec. */
import type { Tensor } from "../tensor/tensor.js";
import type { ActivationCoding } from "./activation_coding.js";

/** Absent parts follow from the weight: masks by magnitude, scales by the rule of the format. */
export interface LayerCoding {
  /** uint8, the weight's shape: 0 is pruned. */
  readonly mask?: Tensor;
  /** float32 (out, scales per row) of the weight's matrix. */
  readonly scale?: Tensor;
  /** float32, as `scale`: of `uint` formats, beside `scale`. */
  readonly zeroPoint?: Tensor;
  /** What it is to be multiplied by; absent: `int8`. */
  readonly activations?: ActivationCoding;
}
