/** Dense products on the GPU whose operands lie in either order: every tile of the kernels, sums of 16 and of 32 bits. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import "./gpu.js"; // first of lib: it chooses the GPU that the addon finds
import test from "ava";
import { deviceColumns } from "../lib/device/device_tensor.js";
import { gpuAddon } from "../lib/device/gpu.js";
import { deviceAddProduct, deviceProduct } from "../lib/device/training_operations.js";
import { DeviceTensor, Tensor, tidy } from "../lib/operations.js";
import { temporaryFolder } from "./tiny_model.js";

// Small, medium and large tiles of Hopper for up to 64, 192 and more tokens: the table is read at the first product.
const folder = temporaryFolder("operand-orders");
test.after.always(folder.clean);
process.env["USMLITE_PRODUCT_PLANS"] = join(folder.path, "plans.inc");
writeFileSync(process.env["USMLITE_PRODUCT_PLANS"], '{"dense", 12, 13, "S/1 S/1 S/1 M/1 M/1 L/1"},\n');

/** (rows, columns) of whole numbers from -4 to 4, whose products have exact sums. */
const wholeNumbers = (rows: number, columns: number, seed: number): Tensor =>
  Tensor.from(
    Float32Array.from({ length: rows * columns }, (_, i) => (Math.imul(i + seed, 2654435761) >>> 20) % 9 - 4),
    [rows, columns],
  );

function transposed(x: Tensor): Tensor {
  const [rows, columns] = x.shape as [number, number];
  const values = x.toArray();
  return Tensor.from(
    Float32Array.from({ length: rows * columns }, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number),
    [columns, rows],
  );
}

function exactProduct(a: Tensor, b: Tensor): Float32Array {
  const [[m, k], [, n]] = [a.shape, b.shape] as [[number, number], [number, number]];
  const [left, right, sums] = [a.toArray(), b.toArray(), new Float32Array(m * n)];
  for (let i = 0; i < m; i++)
    for (let j = 0; j < k; j++) for (let l = 0; l < n; l++) sums[i * n + l]! += (left[i * k + j] as number) * (right[j * n + l] as number);
  return sums;
}

for (const architecture of [0, 80]) {
  test.serial(`operands are multiplied in the order that they have, by kernels for ${architecture || "the GPU"}`, (t) => {
    const { limitKernelArchitecture } = gpuAddon<{ limitKernelArchitecture(limit: number): void }>();
    limitKernelArchitecture(architecture);
    try {
      // Odd sizes: neither tiles nor rows of 16 bytes are filled.
      for (const [m, k, n, types] of [
        [61, 77, 70, ["bfloat16", "float16"]],
        [150, 83, 66, ["bfloat16"]],
        [193, 77, 70, ["bfloat16"]],
      ] as const) {
        const [a, b] = [wholeNumbers(m, k, 1), wholeNumbers(k, n, 5)];
        const [columnsOfA, columnsOfB, product] = [transposed(a), transposed(b), exactProduct(a, b)];
        const seed = wholeNumbers(m, n, 9);
        const addend = seed.toArray();
        const added = product.map((value, i) => value + (addend[i] as number));
        for (const [ofA, ofB] of [
          [false, false],
          [true, false],
          [false, true],
          [true, true],
        ] as const) {
          for (const type of types) {
            tidy(() => {
              const what = `${m} x ${k} x ${n} ${type}${ofA ? ", left transposed" : ""}${ofB ? ", right transposed" : ""}`;
              const left = { matrix: DeviceTensor.from(ofA ? columnsOfA : a, type), transposed: ofA };
              const right = { matrix: DeviceTensor.from(ofB ? columnsOfB : b, type), transposed: ofB };
              t.deepEqual(deviceProduct(left, right, 1, "float32").toArray(), product, `${what}, in float32`);
              const sum = DeviceTensor.from(seed, "float32");
              deviceAddProduct(sum, left, right);
              t.deepEqual(sum.toArray(), added, `${what}, added to float32`);
              const beside = { matrix: DeviceTensor.from(seed, "float32"), factor: 2 };
              const withAddend = product.map((value, i) => 3 * value + 2 * (addend[i] as number));
              t.deepEqual(deviceProduct(left, right, 3, "float32", beside).toArray(), withAddend, `${what}, beside another`);
              if (type === "float16") return;
              const narrow = DeviceTensor.from(Tensor.from(product, [m, n])).toArray();
              t.deepEqual(deviceProduct(left, right).toArray(), narrow, what);
              const narrowSum = DeviceTensor.from(seed);
              deviceAddProduct(narrowSum, left, right, 0.5);
              const half = product.map((value, i) => 0.5 * value + (addend[i] as number));
              t.deepEqual(narrowSum.toArray(), DeviceTensor.from(Tensor.from(half, [m, n])).toArray(), `${what}, added`);
            });
          }
        }
      }
    } finally {
      limitKernelArchitecture(0);
    }
  });
}

test("what is added to a product has its shape and type", (t) => {
  const [left, right] = [{ matrix: DeviceTensor.zeros([5, 16]) }, { matrix: DeviceTensor.zeros([16, 24]) }];
  const refused = (matrix: DeviceTensor, message: RegExp): void =>
    void t.throws(() => deviceProduct(left, right, 1, "bfloat16", { matrix, factor: 1 }), { code: "INVALID_ARGUMENT", message });
  refused(DeviceTensor.zeros([5, 16]), /what is added must be .* \(5, 24\)/);
  refused(DeviceTensor.zeros([5, 24], "float32"), /addend is float32; it must be bfloat16/);
  refused(deviceColumns(DeviceTensor.zeros([5, 40]), 8, 32), /whole matrix, not columns of one/);
  const nothing = { left: { matrix: DeviceTensor.zeros([2, 0]) }, right: { matrix: DeviceTensor.zeros([0, 3]) } };
  const addend = { matrix: DeviceTensor.from(wholeNumbers(2, 3, 1)), factor: 2 };
  const twice = wholeNumbers(2, 3, 1).toArray().map((value) => 2 * value);
  t.deepEqual(deviceProduct(nothing.left, nothing.right, 1, "bfloat16", addend).toArray(), twice);
});
