/** Products by every kernel that a GPU has for them: kinds of codes, dense and 2:4, by every arithmetic and tile. */
import { assertClose } from "./gpu.js"; // first: it chooses the GPU that the addon finds
import { activationType, operand } from "./device_products.js";
import type { ExecutionContext } from "ava";
import { type Arithmetic, deviceLinear, DeviceTensor, DeviceWeight, linear, packWeight, tidy, unpackWeight } from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

const floats = ["float32", "float32+2:4"];
const packed = ["int8", "int4", "int3/g32", "int2", "int1", "nf4/g64", "uint8", "uint4/g32", "uint2"];
const sparse = ["int8+2:4", "int4/g32+2:4", "int2+2:4", "uint8+2:4", "uint4+2:4", "uint2/g32+2:4"];

/** Weights that have kernels of their own, by the arithmetic that multiplies them. */
const weights: Readonly<Record<Arithmetic, readonly string[]>> = {
  bfloat16: [...floats, ...packed, "int4/g32", ...sparse, "int4+2:4"],
  float16: [...floats, ...packed, ...sparse],
  int8: ["int8", "int4", "int8+2:4", "int4+2:4"],
  float8: floats,
};

/** Of random values, relative to the largest output. */
const tolerances: Readonly<Record<Arithmetic, number>> = { bfloat16: 2 ** -7, float16: 2 ** -9, int8: 2 ** -7, float8: 2 ** -4 };

/** Numbers of tokens for tiles of 8, 16 and 32 of the kernels for few tokens. */
const few = [5, 12, 17] as const;
/** For the emulated GPU's up to five tiles of the kernels for many, which take turns by the number of tokens. */
const many = [5, 6, 7, 8, 9] as const;

export function assertEveryProduct(t: ExecutionContext, arithmetic: Arithmetic): void {
  const [outputs, inputs] = [72, 136];
  for (const [index, spec] of weights[arithmetic].entries()) {
    tidy(() => {
      const weight = packWeight(randomTensor([outputs, inputs], index), spec);
      const dense = unpackWeight(weight).weight;
      using onGpu = DeviceWeight.from(weight, { arithmetic });
      const assertProduct = (tokens: number, batchInvariant: boolean): void => {
        const x = randomTensor([tokens, inputs], tokens);
        const y = deviceLinear(DeviceTensor.from(x, activationType(arithmetic)), onGpu, { batchInvariant });
        const expected = linear(operand(x, arithmetic), dense).toArray();
        assertClose(t, y.toTensor().toArray(), expected, tolerances[arithmetic], `${spec} in ${arithmetic}, ${tokens} tokens`);
      };
      for (const tokens of few) assertProduct(tokens, false);
      for (const tokens of many) assertProduct(tokens, true);
    });
  }
}
