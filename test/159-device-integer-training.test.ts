import { assertClose } from "./gpu.js";
import test from "ava";
import {
  deviceLinear,
  DeviceTensor,
  DeviceWeight,
  groupScales,
  integerLinear,
  magnitudeMask,
  PackedMatrix,
  packWeight,
  parseWeightSpec,
  Tape,
  Tensor,
  UsmLiteError,
  WeightQuantization,
} from "../lib/index.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import type { IntegerActivations } from "../lib/device/device_weight.js";
import {
  deviceFillIntegerWeight,
  deviceIntegerLinear,
  deviceIntegerLinearBackward,
  deviceRoundRows,
} from "../lib/device/integer_training.js";
import { deviceFakeQuantize, deviceGroupScales, deviceMagnitudeMask, type DeviceScales } from "../lib/device/training_operations.js";
import { roundRows } from "../lib/quant/activation_coding.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import type { Sparsity } from "../lib/quant/weight_spec.js";
import { randomTensor } from "./gradient.js";

const codings: readonly IntegerActivations[] = ["int8", "int8-asymmetric", "int4"];

/** What a step makes of a float weight. */
function roundedOnGpu(
  values: Tensor,
  spec: string,
  activations: IntegerActivations = "int8",
): { weight: DeviceTensor; scales: DeviceScales; integers: DeviceWeight } {
  const master = DeviceTensor.from(values, "float32");
  const { sparsity } = parseWeightSpec(spec);
  const quantization = { weight: master, spec, mask: sparsity && deviceMagnitudeMask(master, sparsity.kept, sparsity.of) };
  const scales = deviceGroupScales(quantization);
  const weight = deviceFakeQuantize(quantization, scales);
  const integers = DeviceWeight.ofIntegers(spec, master.dim(0), master.dim(1), activations);
  deviceFillIntegerWeight(integers, weight, scales);
  return { weight, scales, integers };
}

test("training multiplies as the packed weight does, to the bit", (t) => {
  const options = { activation: "silu", scale: 0.5, residualScale: 2 } as const;
  for (const [spec, rows, columns] of [
    ["int8", 72, 136],
    ["int8/g64", 72, 136],
    ["int4", 19, 64],
    ["int3", 64, 200],
    ["int2", 8, 8],
    ["nf4", 40, 72],
    ["int4+2:4", 72, 128],
    ["midrise2", 16, 64],
    ["ternary", 24, 40],
    ["int1+2:4", 24, 64],
    ["int4/g32", 24, 72],
    ["int8/g32/dq", 24, 72],
    ["uint4", 24, 72],
    ["uint8/g32", 67, 72],
    ["uint2/g64+2:4", 40, 136],
    ["midrise8/g32+1:4", 24, 64],
  ] as const)
    for (const activations of spec === "int4" ? codings : /[/+u]/.test(spec) ? (["int8-asymmetric"] as const) : (["int8"] as const)) {
      const { sparsity } = parseWeightSpec(spec);
      const master = randomTensor([rows, columns], 1);
      const mask = sparsity && magnitudeMask(master, sparsity.kept, sparsity.of);
      const { weight, scales, integers } = roundedOnGpu(master, spec, activations);
      const { scale, zeroPoint } = scales;
      const given = { scale: scale.toTensor(), ...(zeroPoint && { zeroPoint: zeroPoint.toTensor() }) };
      using packed = DeviceWeight.from(packWeight(weight.toTensor(), spec, mask, given), { arithmetic: "int8", activations });
      if (/8/.test(spec)) {
        const wanted = packed.read();
        t.deepEqual(integers.read(), activations === "int8-asymmetric" ? wanted : { ...wanted, channelSums: new Uint8Array() }, spec);
      }
      const bias = randomTensor([rows], 2);
      for (const frames of [5, 70]) {
        const x = DeviceTensor.from(randomTensor([frames, columns], 3));
        const residual = DeviceTensor.from(randomTensor([frames, rows], 4));
        t.deepEqual(deviceIntegerLinear(x, integers).toArray(), deviceLinear(x, packed).toArray(), `${spec}, ${frames} frames`);
        const wanted = deviceLinear(x, packed, { ...options, residual, bias: packed.arrangeBias(bias) }).toArray();
        const found = deviceIntegerLinear(x, integers, { ...options, residual, bias: DeviceTensor.from(bias, "float32") }).toArray();
        t.deepEqual(found, wanted, `${spec}, ${frames} frames, with all that follows`);
      }
      integers.dispose();
    }
});

for (const activations of codings)
  test(`gradients are those of the CPU's layer in whole numbers, activations of ${activations}`, (t) => {
    const [rows, columns, frames] = [24, 64, 13];
    const operand = roundedOnGpu(randomTensor([rows, columns], 1), "int4", activations);
    const weight = operand.weight.toTensor();
    using packed = PackedMatrix.round(weight, "int4", { ...groupScales(weight, "int4"), activations });
    const x = DeviceTensor.from(randomTensor([frames, columns], 2));
    const bias = DeviceTensor.from(randomTensor([rows], 3), "float32");
    const gradient = DeviceTensor.from(randomTensor([frames, rows], 4));
    for (const options of [{}, { activation: "silu", scale: 0.5 }, { activation: "relu" }] as const) {
      const inputs = [x.toTensor(), weight, bias.toTensor()] as const;
      for (const input of inputs) input.requiresGrad = true;
      using tape = new Tape();
      tape.backward(
        tape.record(() => integerLinear(inputs[0], { weight, packed }, { ...options, bias: inputs[2] })),
        gradient.toTensor(),
      );
      const found = deviceIntegerLinearBackward(x, operand, gradient, {
        ...options,
        bias,
        wantsX: true,
        wantsWeight: true,
        wantsBias: true,
      });
      for (const [i, name] of (["x", "weight", "bias"] as const).entries()) {
        const [actual, expected] = [found[name] as DeviceTensor, tape.gradientOf(inputs[i] as Tensor) as Tensor];
        assertClose(t, actual.toArray(), expected.toArray(), 2 ** -6, `${name} ${JSON.stringify(options)}`);
      }
      const none = deviceIntegerLinearBackward(x, operand, gradient, {
        ...options,
        bias,
        wantsX: false,
        wantsWeight: false,
        wantsBias: false,
      });
      t.deepEqual([none.x, none.weight, none.bias], [undefined, undefined, undefined]);
    }
    assertClose(t, deviceRoundRows(x, activations).toArray(), roundRows(x.toTensor(), activations).toArray(), 2 ** -8, "rounded rows");
  });

for (const [spec, activations, rule] of [
  ["int4", "int8", {}],
  ["int4/g32", "int8-asymmetric", {}],
  ["uint2/g64", "int8", {}],
  ["uint4+2:4", "int8-asymmetric", { learned: true }],
  ["midrise8", "int4", {}],
] as const)
  test(`a layer of ${spec} by ${activations} gives its master weight the gradient that the CPU does`, (t) => {
    const [rows, columns, frames] = [16, 64, 9];
    const step = (place: (x: Tensor) => Tensor, narrow: (x: Tensor) => Tensor): { packed: unknown; results: Float32Array[] } => {
      const [x, residual, upstream] = [
        [frames, columns, 1],
        [frames, rows, 2],
        [frames, rows, 3],
      ].map(([m, n, seed]) => narrow(randomTensor([m as number, n as number], seed as number))) as [Tensor, Tensor, Tensor];
      const [master, bias] = [place(randomTensor([rows, columns], 4)), place(randomTensor([rows], 5))];
      for (const input of [x, residual, master, bias]) input.requiresGrad = true;
      const network = { parameters: () => new Map([["w", master]]), linearWeights: () => ["w"] };
      const { sparsity } = parseWeightSpec(spec);
      const maskOf = ({ kept, of }: Sparsity): Tensor =>
        master instanceof DeviceTensor ? deviceMagnitudeMask(master, kept, of) : magnitudeMask(master, kept, of);
      const masks = new Map<string, Tensor>(sparsity && [["w", maskOf(sparsity)]]);
      const quantization = new WeightQuantization(network as never, new Map([["w", parseWeightSpec(spec)]]), { ...rule, activations, masks });
      quantization.beforeStep(0, new RandomStream(1));
      using tape = new Tape();
      let packed: PackedMatrix | DeviceWeight | undefined;
      const y = tape.record(() => {
        const weight = quantization.transformWeight("w", master);
        packed = quantization.packedWeight("w", weight);
        return integerLinear(
          x,
          { weight, packed: packed as PackedMatrix },
          { bias, activation: "silu", scale: 0.5, residual, residualScale: 2 },
        );
      });
      const values = y.toArray();
      tape.backward(y, upstream);
      const results = [values, ...[x, master, bias, residual].map((input) => (tape.gradientOf(input) as Tensor).toArray())];
      quantization.dispose();
      return { packed, results };
    };
    const [gpu, cpu] = [
      step(
        (x) => DeviceParameter.place(x),
        (x) => DeviceTensor.from(x),
      ),
      step(
        (x) => x,
        (x) => DeviceTensor.from(x).toTensor(),
      ),
    ];
    t.true(gpu.packed instanceof DeviceWeight && cpu.packed instanceof PackedMatrix);
    gpu.results.forEach((values, i) =>
      assertClose(t, values, cpu.results[i] as Float32Array, 2 ** -6, ["y", "x", "weight", "bias", "residual"][i] as string),
    );
  });

test("a weight is filled again in every step", (t) => {
  const x = DeviceTensor.from(randomTensor([3, 16], 1));
  const integers = DeviceWeight.ofIntegers("int8", 8, 16);
  const fill = (seed: number): Float32Array => {
    const quantization = { weight: DeviceTensor.from(randomTensor([8, 16], seed), "float32"), spec: "int8" };
    const scales = deviceGroupScales(quantization);
    deviceFillIntegerWeight(integers, deviceFakeQuantize(quantization, scales), scales);
    return deviceIntegerLinear(x, integers).toArray();
  };
  const [first, second] = [fill(1), fill(2)];
  t.notDeepEqual(first, second);
  t.deepEqual(fill(1), first);
});

test("misuse is a coded error", (t) => {
  t.throws(() => DeviceWeight.ofIntegers("float32", 8, 64), {
    instanceOf: UsmLiteError,
    code: "UNSUPPORTED_SPEC",
    message: /levels are floats/,
  });
  t.throws(() => DeviceWeight.ofIntegers("int4", 8, 12), { code: "UNSUPPORTED_SPEC", message: /no multiple of 8/ });
  const integers = DeviceWeight.ofIntegers("int8", 8, 16);
  const [weight, scale] = [DeviceTensor.zeros([8, 16], "float32"), DeviceTensor.zeros([8, 1], "float32")];
  t.throws(() => deviceFillIntegerWeight(integers, DeviceTensor.zeros([8, 24], "float32"), { scale }), {
    code: "INVALID_ARGUMENT",
    message: /weight must have shape \(8, 16\)/,
  });
  using packed = DeviceWeight.from(packWeight(randomTensor([8, 16], 1), "int8"), { arithmetic: "int8" });
  t.throws(() => deviceFillIntegerWeight(packed, weight, { scale }), { code: "INVALID_ARGUMENT", message: /of DeviceWeight.ofIntegers/ });
  t.throws(() => deviceIntegerLinear(weight, integers, { bias: DeviceTensor.zeros([4], "float32") }), {
    code: "INVALID_ARGUMENT",
    message: /bias must have shape \(8\)/,
  });
});
