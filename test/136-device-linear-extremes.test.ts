import { assertClose } from "./gpu.js";
import test from "ava";
import { deviceLinear, deviceMatmul, DeviceTensor, DeviceWeight, packWeight, Tensor, tidy } from "../lib/operations.js";
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

test("zeros that meet infinity give NaN, in tiles that are full and in those that are not", (t) => {
  const [outputs, inputs] = [80, 64];
  const matrix = (rows: number, row: number, value: number): Tensor => {
    const values = new Float32Array(rows * inputs);
    values[row * inputs + 5] = value;
    return Tensor.from(values, [rows, inputs]);
  };
  const check = (y: DeviceTensor, tokens: number, infiniteToken: boolean): void => {
    const values = y.toTensor().toArray();
    for (const [at, value] of values.entries()) {
      const [token, channel] = [Math.floor(at / outputs), at % outputs];
      const [isLast, isChannel] = [token === tokens - 1, channel === 70];
      const expected = !(infiniteToken ? isLast : isChannel) ? 0 : isLast && isChannel ? -Infinity : NaN;
      t.is(value, expected, `token ${token} of ${tokens}, channel ${channel}`);
    }
  };
  for (const tokens of [1, 20, 70, 130]) {
    tidy(() => {
      const [finite, infinite] = [2, -Infinity].map((value) => DeviceTensor.from(matrix(tokens, tokens - 1, value))) as [
        DeviceTensor,
        DeviceTensor,
      ];
      using weight = DeviceWeight.from(packWeight(matrix(outputs, 70, 2), "int4"), { arithmetic: "bfloat16" });
      check(deviceLinear(infinite, weight), tokens, true);
      check(deviceMatmul(infinite, DeviceTensor.from(matrix(outputs, 70, 2))), tokens, true);
      check(deviceMatmul(finite, DeviceTensor.from(matrix(outputs, 70, -Infinity))), tokens, false);
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
