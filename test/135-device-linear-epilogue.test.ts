import { assertClose, RandomIntegers } from "./gpu.js";
import test from "ava";
import { type DeviceActivation, deviceLinear, DeviceTensor, DeviceWeight, linear, packWeight, tidy, unpackWeight } from "../lib/operations.js";
import { activationType, operand } from "./device_products.js";
import { randomTensor } from "./gradient.js";

test("bias, activation, scale and residual", (t) => {
  const random = new RandomIntegers(1);
  for (const { spec, arithmetic } of [
    { spec: "int4+2:4", arithmetic: "bfloat16" },
    { spec: "int4/g64", arithmetic: "float16" },
    { spec: "int8", arithmetic: "int8" },
  ] as const) {
    for (const activation of ["none", "silu", "relu", "gelu", "glu"] as const satisfies readonly DeviceActivation[]) {
      tidy(() => {
        const [tokens, rows, inputs] = [1 + random.below(20), 16 * (1 + random.below(6)), 8 * (1 + random.below(30))];
        const glu = activation === "glu";
        const outputs = glu ? rows / 2 : rows;
        const packed = packWeight(randomTensor([rows, inputs], 4), spec);
        const [x, bias, residual] = [
          randomTensor([tokens, inputs], 5),
          randomTensor([rows], 6),
          operand(randomTensor([tokens, outputs], 7), activationType(arithmetic)),
        ];
        const added = residual.toArray();
        const sums = linear(operand(x, arithmetic), unpackWeight(packed).weight, { bias }).toArray();
        const expected = Float32Array.from({ length: tokens * outputs }, (_, i) => {
          const at = Math.floor(i / outputs) * rows + (i % outputs);
          const gate = glu ? (sums[at + outputs] as number) : 0;
          return 0.5 * activate(activation, sums[at] as number, gate) - 1.5 * (added[i] as number);
        });
        using weight = DeviceWeight.from(packed, { arithmetic, glu });
        const type = activationType(arithmetic);
        const y = deviceLinear(DeviceTensor.from(x, type), weight, {
          bias: weight.arrangeBias(bias),
          activation,
          scale: 0.5,
          residual: DeviceTensor.from(residual, type),
          residualScale: -1.5,
        });
        assertClose(
          t,
          y.toTensor().toArray(),
          expected,
          arithmetic === "float16" ? 2 ** -9 : 2 ** -8,
          `${spec} in ${arithmetic}, ${activation}, (${tokens}, ${rows}, ${inputs})`,
        );
      });
    }
  }
});

function activate(activation: DeviceActivation, x: number, gate: number): number {
  const sigmoid = (v: number): number => 1 / (1 + Math.exp(-v));
  switch (activation) {
    case "silu":
      return x * sigmoid(x);
    case "relu":
      return Math.max(x, 0);
    case "gelu":
      return 0.5 * x * (1 + errorFunction(x / Math.SQRT2));
    case "glu":
      return x * sigmoid(gate);
    default:
      return x;
  }
}

/** By its series; |x| below 4. */
function errorFunction(x: number): number {
  if (Math.abs(x) > 4) return Math.sign(x);
  let [term, sum] = [x, x];
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
