/** Every kind of product once, at small odd sizes: for compute-sanitizer, which slows kernels down a hundredfold. */
import { deviceLinear, DeviceTensor, DeviceWeight, packWeight, quantizeRows, Tensor, tidy, type Arithmetic } from "../../lib/index.js";
import { values } from "../values.js";

const kernels: readonly (readonly [Arithmetic, readonly string[]])[] = [
  ["bfloat16", ["float32", "int8", "int4", "int3", "int2", "int1", "nf4/g64", "int4/g32", "int4/g128", "float32+2:4", "int8+2:4", "int4+2:4", "int2+2:4", "int4/g128+2:4"]],
  ["float16", ["int4", "int4+2:4"]],
  ["int8", ["int8", "int4", "int8+2:4", "int4+2:4"]],
  ["float8", ["float32", "float32+2:4"]],
];
const shapes = [[3, 72, 136], [70, 144, 264]] as const;

let products = 0;
for (const [arithmetic, specs] of kernels) {
  for (const spec of specs) {
    for (const [tokens, outputs, inputs] of shapes) {
      tidy(() => {
        using weight = DeviceWeight.from(packWeight(Tensor.from(values(outputs * inputs), [outputs, inputs]), spec), { arithmetic });
        const x = DeviceTensor.from(Tensor.from(values(tokens * inputs), [tokens, inputs]), arithmetic === "float16" ? "float16" : "bfloat16");
        const bias = weight.arrangeBias(Tensor.from(values(outputs)));
        for (const batchInvariant of [false, true]) {
          const y = deviceLinear(x, weight, { bias, activation: "silu", residual: deviceLinear(x, weight), batchInvariant }).toTensor().toArray();
          if (!y.every(Number.isFinite)) throw new Error(`${spec} in ${arithmetic} gives what is no number`);
          products++;
        }
      });
    }
  }
}
tidy(() => quantizeRows(DeviceTensor.from(Tensor.from(values(5 * 264), [5, 264])), "float8").codes.toTensor());
console.log(`${products} products`);
