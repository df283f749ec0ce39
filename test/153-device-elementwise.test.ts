import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceTensor, dropout, glu, silu, Tape, Tensor, UsmLiteError } from "../lib/operations.js";
import {
  deviceAddInPlace,
  deviceDropout,
  deviceGluBackward,
  deviceScaledSum,
  deviceSilu,
  deviceSiluBackward,
  deviceTranspose,
} from "../lib/device/gradient_operations.js";
import { randomTensor, randomValues } from "./gradient.js";

const types = [
  ["bfloat16", 2 ** -8],
  ["float16", 2 ** -11],
] as const;
const shapes = [
  [1, 1],
  [3, 7],
  [5, 64],
  [2, 1030],
] as const;

const scaled = (shape: readonly [number, number], seed: number, factor: number): Tensor =>
  Tensor.from(
    randomValues(shape[0] * shape[1], seed).map((v) => factor * v),
    shape,
  );

/** The gradient of an operation's input, as the tape of the CPU has it. */
function gradientOnCpu(x: DeviceTensor, gradient: DeviceTensor, operation: (x: Tensor) => Tensor): Float32Array {
  using tape = new Tape();
  const input = x.toTensor();
  input.requiresGrad = true;
  tape.backward(
    tape.record(() => operation(input)),
    gradient.toTensor(),
  );
  return (tape.gradientOf(input) as Tensor).toArray();
}

test("sums", (t) => {
  for (const type of ["float32", "bfloat16", "float16"] as const) {
    for (const shape of [[9], [3, 7], [300, 4]]) {
      const [x, y] = [DeviceTensor.from(randomTensor(shape, 1), type), DeviceTensor.from(randomTensor(shape, 2), type)];
      const other = y.toArray();
      const expected = x.toArray().map((v, i) => 0.5 * v - 2 * (other[i] as number));
      const tolerance = type === "float32" ? 1e-7 : 2 ** -8;
      assertClose(t, deviceScaledSum(x, 0.5, y, -2).toArray(), expected, tolerance, `${type} (${shape.join(", ")})`);
      const sum = x.toArray().map((v, i) => v + (other[i] as number));
      deviceAddInPlace(x, y);
      assertClose(t, x.toArray(), sum, tolerance, `${type} in place`);
    }
  }
});

test("dropout drops what it drops on the CPU", (t) => {
  for (const [type, tolerance] of types) {
    for (const shape of shapes) {
      const x = DeviceTensor.from(scaled(shape, 3, 1), type);
      for (const options of [
        { probability: 0.3, seed: 2 ** 52 + 5 },
        { probability: 0, seed: 1 },
      ]) {
        const y = deviceDropout(x, options).toArray();
        const expected = dropout(x.toTensor(), options).toArray();
        assertClose(t, y, expected, tolerance, `${type} ${shape.join(" x ")}`);
        t.deepEqual(
          y.map((v) => Number(v === 0)),
          expected.map((v) => Number(v === 0)),
        );
      }
    }
  }
});

test("SiLU with dropout, and its gradient", (t) => {
  for (const [type, tolerance] of types) {
    for (const shape of shapes) {
      const [x, gradient] = [DeviceTensor.from(scaled(shape, 4, 8), type), DeviceTensor.from(scaled(shape, 5, 2), type)];
      for (const options of [undefined, { probability: 0.5, seed: 77 }]) {
        const operation = (input: Tensor): Tensor => silu(input, { dropout: options });
        assertClose(t, deviceSilu(x, options).toArray(), operation(x.toTensor()).toArray(), tolerance, `${type} ${shape.join(" x ")}`);
        const expected = gradientOnCpu(x, gradient, operation);
        assertClose(t, deviceSiluBackward(x, gradient, options).toArray(), expected, tolerance, `gradient, ${type} ${shape.join(" x ")}`);
      }
    }
  }
});

test("gradient of the gated linear unit", (t) => {
  for (const [type, tolerance] of types) {
    for (const [frames, channels] of [
      [1, 1],
      [4, 33],
      [3, 1032],
    ] as const) {
      const x = DeviceTensor.from(scaled([frames, 2 * channels], 6, 4), type);
      const gradient = DeviceTensor.from(scaled([frames, channels], 7, 2), type);
      assertClose(
        t,
        deviceGluBackward(x, gradient).toArray(),
        gradientOnCpu(x, gradient, glu),
        tolerance,
        `${type} ${frames} x ${channels}`,
      );
    }
  }
});

test("transposed copies", (t) => {
  for (const type of ["float32", "bfloat16", "float16"] as const) {
    for (const [rows, columns] of [
      [1, 1],
      [3, 70],
      [65, 9],
      [130, 66],
    ] as const) {
      const x = DeviceTensor.from(randomTensor([rows, columns], 8), type);
      const values = x.toArray();
      const expected = Float32Array.from(
        { length: rows * columns },
        (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number,
      );
      const y = deviceTranspose(x);
      t.deepEqual([...y.shape], [columns, rows]);
      t.deepEqual(y.toArray(), expected);
      t.deepEqual(deviceTranspose(y).toArray(), values);
    }
  }
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const x = DeviceTensor.zeros([4, 6]);
  t.throws(() => deviceAddInPlace(x, DeviceTensor.zeros([4, 5])), { ...invalid, message: /addend must have shape \(4, 6\)/ });
  t.throws(() => deviceAddInPlace(x, DeviceTensor.zeros([4, 6], "float32")), {
    ...invalid,
    message: /addend is float32; it must be bfloat16/,
  });
  t.throws(() => deviceScaledSum(DeviceTensor.zeros([4], "int8"), 1, x, 1), { ...invalid, message: /x is int8/ });
  t.throws(() => deviceDropout(x, { probability: 1, seed: 0 }), invalid);
  t.throws(() => deviceDropout(DeviceTensor.zeros([4, 6], "float32"), { probability: 0.1, seed: 0 }), {
    ...invalid,
    message: /x is float32/,
  });
  t.throws(() => deviceSiluBackward(x, DeviceTensor.zeros([3, 6])), { ...invalid, message: /gradient must have shape/ });
  t.throws(() => deviceGluBackward(DeviceTensor.zeros([4, 5]), x), { ...invalid, message: /5 columns/ });
  t.throws(() => deviceTranspose(DeviceTensor.zeros([4])), { ...invalid, message: /only a matrix/ });
});
