/**
 * Every kind of product once, at small odd sizes, and the most common kinds by every plan: for compute-sanitizer, which slows
 * kernels down a hundredfold.
 * usage: node dist/bench/gpu/small_products.js [few]      few: the most common kinds alone
 */
import { deviceLinear, DeviceTensor, DeviceWeight, packWeight, quantizeRows, Tensor, tidy, type Arithmetic } from "../../lib/index.js";
import { deviceLinearArguments } from "../../lib/device/device_linear.js";
import { gpuAddon } from "../../lib/device/gpu.js";
import { values } from "../values.js";
import type { PlanBindings } from "./plan_bindings.js";

const kernels: readonly (readonly [Arithmetic, readonly string[]])[] = [
  [
    "bfloat16",
    [
      "float32",
      "int8",
      "int4",
      "int3",
      "int2",
      "int1",
      "nf4/g64",
      "int4/g32",
      "int4/g128",
      "float32+2:4",
      "int8+2:4",
      "int4+2:4",
      "int2+2:4",
      "int4/g128+2:4",
      "uint8",
      "uint4/g32",
      "uint2/g64+2:4",
    ],
  ],
  ["float16", ["int4", "int4+2:4", "uint4/g64"]],
  ["int8", ["int8", "int4", "int8+2:4", "int4+2:4", "int4/g32", "uint4+2:4"]],
  ["float8", ["float32", "float32+2:4"]],
];
const common: readonly (readonly [Arithmetic, string])[] = [
  ["bfloat16", "int4+2:4"],
  ["bfloat16", "float32+2:4"],
  ["bfloat16", "int4"],
  ["int8", "int8+2:4"],
];
const shapes = [
  [3, 72, 136],
  [70, 144, 264],
] as const;

let products = 0;
for (const [arithmetic, specs] of process.argv[2] === "few" ? [] : kernels) {
  for (const spec of specs) {
    for (const [tokens, outputs, inputs] of shapes) {
      tidy(() => {
        using weight = DeviceWeight.from(packWeight(Tensor.from(values(outputs * inputs), [outputs, inputs]), spec), {
          arithmetic,
          activations: "int8-asymmetric", // symmetric ones are multiplied below
        });
        const x = DeviceTensor.from(
          Tensor.from(values(tokens * inputs), [tokens, inputs]),
          arithmetic === "float16" ? "float16" : "bfloat16",
        );
        const bias = weight.arrangeBias(Tensor.from(values(outputs)));
        for (const batchInvariant of [false, true]) {
          const y = deviceLinear(x, weight, { bias, activation: "silu", residual: deviceLinear(x, weight), batchInvariant })
            .toTensor()
            .toArray();
          if (!y.every(Number.isFinite)) throw new Error(`${spec} in ${arithmetic} gives what is no number`);
          products++;
        }
      });
    }
  }
}
const [manyTokens, outputs, inputs] = [70, 144, 1032];
for (const [arithmetic, spec] of common) {
  tidy(() => {
    const native = gpuAddon<PlanBindings>();
    using weight = DeviceWeight.from(packWeight(Tensor.from(values(outputs * inputs), [outputs, inputs]), spec), { arithmetic });
    const x = DeviceTensor.from(Tensor.from(values(manyTokens * inputs), [manyTokens, inputs]));
    const [operand, rowScales, , ...rest] = deviceLinearArguments(arithmetic === "int8" ? quantizeRows(x, "int8") : x, weight, {});
    for (const plan of native.devicePlans(weight.handle, manyTokens).plans) {
      native.deviceLinearTimes(operand, rowScales, [weight.handle], ...rest, 1, 1, plan);
      products++;
    }
  });
}
tidy(() => quantizeRows(DeviceTensor.from(Tensor.from(values(5 * 264), [5, 264])), "float8").codes.toTensor());
console.log(`${products} products`);
