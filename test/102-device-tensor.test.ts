import { assertClose, fromSmallFloat } from "./gpu.js";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import test from "ava";
import {
  DeviceStream,
  DeviceTensor,
  type DeviceType,
  gpuInformation,
  gpuMemoryStatistics,
  hasGpu,
  synchronizeGpu,
  Tensor,
  tidy,
  trimGpuMemory,
  UsmLiteError,
} from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

test("the GPU says what it is", (t) => {
  t.true(hasGpu());
  const gpu = gpuInformation();
  t.true(gpu.name.length > 0 && gpu.computeCapability >= 8 && gpu.multiprocessors > 0 && gpu.memoryBytes > 0);
});

test("values come back as they went, in every shape and float type", (t) => {
  for (const shape of [[1], [7], [1000], [1, 1], [3, 5], [17, 64], [5, 1003], [0, 8], [300, 4]]) {
    const values = randomTensor(shape, shape.length);
    for (const [type, tolerance] of [
      ["float32", 0],
      ["bfloat16", 2 ** -8],
      ["float16", 2 ** -11],
    ] as const) {
      using tensor = DeviceTensor.from(values, type);
      t.deepEqual(tensor.shape, shape);
      t.is(tensor.type, type);
      const back = tensor.toTensor();
      t.deepEqual(back.shape, shape);
      assertClose(t, back.toArray(), values.toArray(), tolerance, `${type} (${shape.join(", ")})`);
    }
  }
});

test("floats are rounded to the nearest, ties to even, and keep NaN, infinities, zeros and tiny values", (t) => {
  const special = [
    0,
    -0,
    1,
    -1,
    NaN,
    Infinity,
    -Infinity,
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    65504,
    65520,
    1e38,
    2 ** -24,
    2 ** -25,
    3 * 2 ** -25,
    1e-40,
  ];
  const values = Tensor.from(Float32Array.from(special));
  for (const [type, exponentBits, mantissaBits] of [
    ["bfloat16", 8, 7],
    ["float16", 5, 10],
  ] as const) {
    const largest = (2 - 2 ** -mantissaBits) * 2 ** (2 ** (exponentBits - 1) - 1);
    const expected = special.map((value) => nearest(value, exponentBits, mantissaBits, largest));
    using tensor = DeviceTensor.from(values, type);
    t.deepEqual([...tensor.toTensor().toArray()], expected.map(Math.fround), type);
    using wide = tensor.cast("float32");
    t.deepEqual(wide.toTensor().toArray(), tensor.toTensor().toArray());
    using again = wide.cast(type);
    t.deepEqual(again.toTensor().toArray(), tensor.toTensor().toArray());
  }
});

/** By search among all numbers of the format. */
function nearest(value: number, exponentBits: number, mantissaBits: number, largest: number): number {
  if (!Number.isFinite(value) || value === 0) return value;
  const magnitude = Math.abs(Math.fround(value));
  let [low, high] = [0, (2 ** exponentBits - 1) * 2 ** mantissaBits]; // bits of infinity; as numbers they are in order
  const of = (bits: number): number => fromSmallFloat(bits, exponentBits, mantissaBits);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (of(middle) <= magnitude) low = middle;
    else high = middle;
  }
  const [below, above] = [of(low), of(high)]; // infinity stands one step above the largest number
  const up = magnitude - below > above - magnitude || (magnitude - below === above - magnitude && low % 2 === 1);
  const rounded = up ? above : below;
  return Math.sign(value) * (rounded > largest ? Infinity : rounded);
}

test("tensors are zero where they were made so, and can be used on any stream", (t) => {
  using first = new DeviceStream();
  using second = new DeviceStream();
  const values = randomTensor([33, 70], 1);
  using zeros = DeviceTensor.zeros([3, 70], "int8", first);
  t.deepEqual([...(zeros.toTensor(second).toArray() as unknown as Int8Array)], Array(210).fill(0));
  for (let repeat = 0; repeat < 20; repeat++) {
    using tensor = DeviceTensor.from(values, "float32", first);
    using rounded = tensor.cast("float16", second);
    using wide = rounded.cast("float32", first);
    assertClose(t, wide.toTensor(second).toArray(), values.toArray(), 2 ** -11, "across streams");
  }
  first.synchronize();
  synchronizeGpu();
  first.dispose();
  t.true(first.released);
  t.throws(() => first.synchronize(), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
});

test("memory is given back by scope and by hand, and kept for reuse", (t) => {
  trimGpuMemory();
  const before = gpuMemoryStatistics().bytesInUse;
  const kept = tidy(() => {
    DeviceTensor.zeros([100, 100]);
    DeviceTensor.zeros([50]);
    return DeviceTensor.zeros([256], "float32");
  });
  t.is(gpuMemoryStatistics().bytesInUse - before, kept.bytes);
  kept.dispose();
  kept.dispose();
  t.true(kept.released);
  t.throws(() => kept.toTensor(), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
  t.is(gpuMemoryStatistics().bytesInUse, before);
  t.true(gpuMemoryStatistics().bytesCached > 0);
  trimGpuMemory();
  t.is(gpuMemoryStatistics().bytesCached, 0);
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  t.throws(() => DeviceTensor.zeros([1, 2, 3]), { ...invalid, message: /one or two axes/ });
  t.throws(() => DeviceTensor.from(Tensor.zeros([1, 2, 3])), { ...invalid, message: /one or two axes/ });
  t.throws(() => DeviceTensor.from(Tensor.zeros([4], "int32")), { ...invalid, message: /float32/ });
  t.throws(() => DeviceTensor.from(Tensor.zeros([4]), "int8" as "float32"), { ...invalid, message: /quantizeRows/ });
  for (const shape of [
    [2 ** 31, 2 ** 31],
    [2 ** 31, 2 ** 30],
  ]) {
    t.throws(() => DeviceTensor.zeros(shape, "float32"), {
      instanceOf: UsmLiteError,
      code: "OUT_OF_MEMORY",
      message: /no GPU has the memory/,
    });
  }
  t.throws(() => DeviceTensor.zeros([4], "int7" as DeviceType), { ...invalid, message: /choose float32/ });
  t.throws(() => DeviceTensor.zeros([4], "int8").cast("float32"), { ...invalid, message: /casts are between/ });
  t.throws(() => new DeviceTensor({} as never), { ...invalid, message: /tensor on the GPU/ });
});

/** Multiplies in a thread of its own, and posts the last product. */
const multiplier = `
  const { parentPort, workerData } = require("node:worker_threads");
  import(workerData).then(({ deviceLinear, DeviceTensor, DeviceWeight, packWeight, Tensor }) => {
    const values = (...shape) => Tensor.from(Float32Array.from({ length: shape[0] * 64 }, (_, i) => (i % 13) - 6), shape);
    const weight = DeviceWeight.from(packWeight(values(64, 64), "int8"));
    const x = DeviceTensor.from(values(3, 64));
    for (let i = 0; i < 100; i++) deviceLinear(x, weight).dispose();
    parentPort.postMessage(deviceLinear(x, weight).toTensor().toArray());
  });`;

test("several threads of a process compute on the GPU at once", async (t) => {
  const workerData = new URL("../lib/operations.js", import.meta.url).href;
  const workers = Array.from({ length: 3 }, () => new Worker(multiplier, { eval: true, workerData }));
  const results = await Promise.all(workers.map(async (worker) => (await once(worker, "message"))[0] as Float32Array));
  t.true(results[0]!.some((value) => value !== 0));
  for (const result of results) t.deepEqual(result, results[0]);
});
