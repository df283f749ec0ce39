// The kernels for many tokens on GPUs before Hopper, run on the GPU at hand; on the emulated one their two tiles take turns by the
// number of tokens.
import { assertClose, onlySmall, realGpu } from "./gpu.js";
import { operand, product } from "./device_products.js";
import { assertEveryProduct } from "./every_product.js";
process.env["USMLITE_CUDA_ARCHITECTURE"] = "80"; // before the addon's first product
import { spawnSync } from "node:child_process";
import test from "ava";
import {
  type Arithmetic,
  deviceLinear,
  deviceMatmul,
  DeviceTensor,
  DeviceWeight,
  linear,
  packWeight,
  tidy,
  unpackWeight,
  UsmLiteError,
} from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

const cases: readonly { spec: string; arithmetic: Arithmetic }[] = [
  ...["float32", "int8", "int8/g64", "int4", "int4/g32", "int3", "int2", "int1/g128", "nf4/g64"].map((spec) => ({
    spec,
    arithmetic: "bfloat16" as const,
  })),
  ...["float32+2:4", "int8+2:4", "int4+2:4", "int4/g32+2:4", "int4/g128+2:4", "int2+2:4"].map((spec) => ({
    spec,
    arithmetic: "bfloat16" as const,
  })),
  ...["uint8/g32+2:4", "uint8", "uint4/g64", "uint4+2:4", "uint2", "uint2/g32+2:4"].map((spec) => ({ spec, arithmetic: "bfloat16" as const })),
  ...["float32+2:4", "int4/g128", "int8", "uint8/g64", "uint2/g32"].map((spec) => ({ spec, arithmetic: "float16" as const })),
  ...["int8", "int4", "int8+2:4", "int4+2:4"].map((spec) => ({ spec, arithmetic: "int8" as const })),
];

test("tiles of both sizes give the product of the dequantized weight", (t) => {
  // Tokens, outputs and inputs that end inside a tile, an octet, a slice; odd numbers of tokens take the small tile.
  const shapes = [
    [65, 72, 200],
    [18, 133, 136],
  ] as const;
  const largeShapes = [
    [257, 1032, 520],
    [1030, 1000, 264],
    [129, 320, 4096],
  ] as const;
  for (const [index, { spec, arithmetic }] of cases.entries()) {
    for (const [tokens, outputs, inputs] of realGpu && !onlySmall
      ? [...shapes, ...largeShapes]
      : [shapes[(index + (arithmetic === "int8" ? 1 : 0)) % 2] as (typeof shapes)[number]]) {
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

for (const arithmetic of ["bfloat16", "float16", "int8"] as const) {
  test(`products by every kernel in ${arithmetic}`, (t) => assertEveryProduct(t, arithmetic));
}

test("a token's result is the same bits in tiles of both sizes", (t) => {
  const [tokens, outputs, inputs] = realGpu && !onlySmall ? [2100, 1032, 512] : [130, 72, 200];
  for (const { spec, arithmetic } of [
    { spec: "int4/g64+2:4", arithmetic: "bfloat16" },
    { spec: "float32", arithmetic: "bfloat16" },
    { spec: "int8+2:4", arithmetic: "int8" },
  ] as const) {
    tidy(() => {
      using weight = DeviceWeight.from(packWeight(randomTensor([outputs, inputs], 6), spec), { arithmetic });
      const x = randomTensor([tokens, inputs], 5);
      const all = product(x, weight, arithmetic);
      for (const [begin, end] of [
        [0, 1],
        [1, 19],
        [tokens - 5, tokens],
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

test("gates, activations, scales, biases and residuals", (t) => {
  const [rows, inputs] = [80, 128];
  const packed = packWeight(randomTensor([rows, inputs], 4), "int4+2:4");
  for (const [tokens, glu] of [
    [66, false],
    [67, true],
  ] as const) {
    tidy(() => {
      const [x, bias] = [randomTensor([tokens, inputs], 5), randomTensor([rows], 6)];
      const sums = linear(operand(x, "bfloat16"), unpackWeight(packed).weight, { bias }).toArray();
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
      });
      assertClose(t, y.toTensor().toArray(), expected, 2 ** -8, `${glu ? "glu" : "silu"}, ${tokens} tokens`);
    });
  }
});

test("products of two matrices, neither of them packed", (t) => {
  for (const type of ["bfloat16", "float16"] as const) {
    for (const [tokens, channels, inputs] of [
      [1, 8, 8],
      [70, 130, 200],
      [131, 70, 65],
    ] as const) {
      tidy(() => {
        const x = DeviceTensor.from(randomTensor([tokens, inputs], 1), type);
        const w = DeviceTensor.from(randomTensor([channels, inputs], 2), type);
        const expected = linear(x.toTensor(), w.toTensor()).toArray();
        assertClose(
          t,
          deviceMatmul(x, w).toTensor().toArray(),
          expected,
          type === "float16" ? 2 ** -10 : 2 ** -8,
          `${type} (${tokens}, ${channels}, ${inputs})`,
        );
      });
    }
  }
});

test("e4m3 numbers are refused where the GPU does not multiply them", (t) => {
  tidy(() => {
    using weight = DeviceWeight.from(packWeight(randomTensor([16, 16], 1), "float32"), { arithmetic: "float8" });
    const error = t.throws(() => deviceLinear(DeviceTensor.zeros([70, 16]), weight), {
      instanceOf: UsmLiteError,
      message: /8\.9 or later/,
    });
    t.is(error?.code, "UNSUPPORTED_SPEC");
  });
});

test("an architecture that has no kernels is a coded error", (t) => {
  const library = new URL("../lib/operations.js", import.meta.url).href;
  const script = `const { DeviceTensor, DeviceWeight, deviceLinear, packWeight, Tensor } = await import(${JSON.stringify(library)});
    const weight = DeviceWeight.from(packWeight(Tensor.zeros([16, 16]), "int8"));
    for (const tokens of [70, 71]) try { deviceLinear(DeviceTensor.zeros([tokens, 16]), weight); } catch ({ code, message }) { console.log(code, message); }`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    env: { ...process.env, USMLITE_CUDA_ARCHITECTURE: "75" },
    encoding: "utf8",
  });
  const line = 'INVALID_ARGUMENT USMLITE_CUDA_ARCHITECTURE is "75"; it must be 80, 89 or 90\n';
  t.is(stdout, line + line);
});
