// Products with so many tokens that large tiles are multiplied: on the emulated GPU their sizes take turns by the number of tokens.
import { assertClose, onlySmall, realGpu } from "./gpu.js";
import { operand, product } from "./device_products.js";
import test from "ava";
import { type Arithmetic, deviceLinear, DeviceTensor, DeviceWeight, linear, packWeight, tidy, unpackWeight } from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

const cases: readonly { spec: string; arithmetic: Arithmetic }[] = [
  ...["float32", "int8", "int4", "int4/g64", "float32+2:4", "int4+2:4", "int4/g32+2:4", "nf4/g64"].map((spec) => ({
    spec,
    arithmetic: "bfloat16" as const,
  })),
  ...["float32+2:4", "int4/g128"].map((spec) => ({ spec, arithmetic: "float16" as const })),
  ...["int8", "int4", "int8+2:4", "int4+2:4"].map((spec) => ({ spec, arithmetic: "int8" as const })),
];

test("tiles of every size give the product of the dequantized weight", (t) => {
  const shapes = [
    [130, 136, 264],
    [300, 200, 136],
  ] as const;
  const oddOutputs = [72, 129, 72] as const; // rows of outputs that end off a multiple of 16 bytes
  const largeShapes = [[257, 1032, 520], [1030, 1000, 264], oddOutputs] as const;
  for (const [index, { spec, arithmetic }] of cases.entries()) {
    const small = shapes[index % 2] as (typeof shapes)[number];
    const sparse16 = arithmetic !== "int8" && spec.endsWith("+2:4");
    for (const [tokens, outputs, inputs] of realGpu && !onlySmall
      ? [...shapes, ...largeShapes]
      : [
          [small[0] + index, small[1], small[2]] as const,
          ...(sparse16 ? [oddOutputs, [73, 136, 136] as const, [74, 72, 136] as const] : []),
        ]) {
      tidy(() => {
        const packed = packWeight(randomTensor([outputs, inputs], index), spec);
        const x = randomTensor([tokens, inputs], index + 50);
        using weight = DeviceWeight.from(packed, { arithmetic });
        const expected = linear(operand(x, arithmetic), unpackWeight(packed).weight).toArray();
        const tolerance = (arithmetic === "float16" ? 2 ** -10 : 2 ** -8) * (spec.includes("/g") ? 2 : 1);
        assertClose(t, product(x, weight, arithmetic), expected, tolerance, `${spec} in ${arithmetic}, (${tokens}, ${outputs}, ${inputs})`);
      });
    }
  }
});

test("a token's result is the same bits in tiles of every size", (t) => {
  const [tokens, outputs, inputs] = realGpu && !onlySmall ? [2100, 1032, 512] : [284, 136, 200];
  for (const { spec, arithmetic } of [
    { spec: "int4+2:4", arithmetic: "bfloat16" },
    { spec: "float32", arithmetic: "bfloat16" },
    { spec: "int8+2:4", arithmetic: "int8" },
  ] as const) {
    tidy(() => {
      using weight = DeviceWeight.from(packWeight(randomTensor([outputs, inputs], 6), spec), { arithmetic });
      const x = randomTensor([tokens, inputs], 5);
      const all = product(x, weight, arithmetic);
      for (const [begin, end] of [
        [0, 1],
        [1, 68],
        [2, 150],
        [tokens - 70, tokens],
      ] as const) {
        t.deepEqual(
          product(x.rows(begin, end), weight, arithmetic),
          all.slice(begin * outputs, end * outputs),
          `${spec} in ${arithmetic}, tokens ${begin} to ${end}`,
        );
      }
    });
  }
});

test("blocks that share the inputs of tiles give the same product", (t) => {
  // On the emulated GPU the plans, most of which share, take turns by the number of tokens.
  const [outputs, inputs] = realGpu && !onlySmall ? [520, 4096] : [136, 520];
  for (const { spec, arithmetic, plans } of [
    { spec: "int4+2:4", arithmetic: "bfloat16", plans: 8 },
    { spec: "float32", arithmetic: "bfloat16", plans: 4 },
    { spec: "int8+2:4", arithmetic: "int8", plans: 4 },
  ] as const) {
    tidy(() => {
      const packed = packWeight(randomTensor([outputs, inputs], 8), spec);
      using weight = DeviceWeight.from(packed, { arithmetic });
      for (let tokens = 65; tokens < 65 + plans; tokens++) {
        const x = randomTensor([tokens, inputs], tokens);
        const expected = linear(operand(x, arithmetic), unpackWeight(packed).weight).toArray();
        const y = deviceLinear(DeviceTensor.from(x), weight).toTensor().toArray();
        assertClose(t, y, expected, 2 ** -8, `${spec} in ${arithmetic}, ${tokens} tokens`);
        t.deepEqual(deviceLinear(DeviceTensor.from(x), weight).toTensor().toArray(), y, "the same bits each time");
      }
    });
  }
});

test("gates, activations and residuals in large tiles", (t) => {
  const [tokens, rows, inputs] = [272, 160, 128];
  const packed = packWeight(randomTensor([rows, inputs], 4), "int4+2:4");
  const [x, bias] = [randomTensor([tokens, inputs], 5), randomTensor([rows], 6)];
  const sums = linear(operand(x, "bfloat16"), unpackWeight(packed).weight, { bias }).toArray();
  for (const glu of [false, true]) {
    tidy(() => {
      const outputs = glu ? rows / 2 : rows;
      const residual = operand(randomTensor([tokens, outputs], 7), "bfloat16");
      const added = residual.toArray();
      const expected = Float32Array.from({ length: tokens * outputs }, (_, i) => {
        const at = Math.floor(i / outputs) * rows + (i % outputs);
        const value = sums[at] as number;
        return 0.5 * (value / (1 + Math.exp(-(glu ? (sums[at + outputs] as number) : value)))) + 2 * (added[i] as number);
      });
      using weight = DeviceWeight.from(packed, { glu });
      const y = deviceLinear(DeviceTensor.from(x), weight, {
        bias: weight.arrangeBias(bias),
        activation: glu ? "glu" : "silu",
        scale: 0.5,
        residual: DeviceTensor.from(residual),
        residualScale: 2,
        batchInvariant: true,
      });
      assertClose(t, y.toTensor().toArray(), expected, 2 ** -8, glu ? "glu" : "silu");
    });
  }
});
