import { assertClose } from "./gpu.js";
import test from "ava";
import { deviceLinear, DeviceTensor, DeviceWeight, packWeight, Tensor, tidy } from "../lib/operations.js";
import { activationType } from "./device_products.js";
import { randomTensor, randomValues } from "./gradient.js";

test("NaN and infinity stay in their rows", (t) => {
  const [tokens, outputs, inputs] = [6, 20, 64];
  const values = randomValues(tokens * inputs, 3);
  [values[2 * inputs + 5], values[4 * inputs + 63]] = [NaN, -Infinity];
  for (const { spec, arithmetic } of [
    { spec: "int4", arithmetic: "bfloat16" },
    { spec: "int8+2:4", arithmetic: "float16" },
    { spec: "int4", arithmetic: "int8" },
  ] as const) {
    tidy(() => {
      const packed = packWeight(randomTensor([outputs, inputs], 8), spec);
      using weight = DeviceWeight.from(packed, { arithmetic });
      const y = deviceLinear(DeviceTensor.from(Tensor.from(values, [tokens, inputs]), activationType(arithmetic)), weight)
        .toTensor()
        .toArray();
      for (let row = 0; row < tokens; row++) {
        const finite = y.slice(row * outputs, (row + 1) * outputs).filter((value) => Number.isFinite(value)).length;
        // What is pruned is not multiplied at all.
        if (row === 2 && !spec.includes("+")) t.is(finite, 0, `${spec} in ${arithmetic}`);
        else if (row === 2 || row === 4) t.true(finite < outputs);
        else t.is(finite, outputs, `${spec} in ${arithmetic}, row ${row}`);
      }
    });
  }
});

test("the largest codes and activations overflow nowhere", (t) => {
  const [tokens, outputs, inputs] = [3, 16, 2048];
  const ones = Tensor.from(new Float32Array(outputs * inputs).fill(1), [outputs, inputs]);
  const x = Tensor.from(new Float32Array(tokens * inputs).fill(-1), [tokens, inputs]);
  for (const { spec, arithmetic } of [
    { spec: "int8", arithmetic: "int8" },
    { spec: "int4", arithmetic: "int8" },
    { spec: "int8", arithmetic: "bfloat16" },
    { spec: "int2", arithmetic: "bfloat16" },
  ] as const) {
    tidy(() => {
      using weight = DeviceWeight.from(packWeight(ones, spec), { arithmetic });
      const y = deviceLinear(DeviceTensor.from(x), weight).toTensor().toArray();
      assertClose(t, y, new Float32Array(tokens * outputs).fill(-inputs), 2 ** -8, `${spec} in ${arithmetic}`);
    });
  }
});
