import { once } from "node:events";
import { Worker } from "node:worker_threads";
import test from "ava";
import { matmul, Tensor } from "../lib/operations.js";

const modules = ["../lib/ops/matmul.js", "../lib/tensor/tensor.js"].map((path) => new URL(path, import.meta.url).href);

/** Multiplies in a thread of its own, which loads no more than that takes, and posts the product. */
const source = `
  const { parentPort } = require("node:worker_threads");
  Promise.all(${JSON.stringify(modules)}.map((module) => import(module))).then(([{ matmul }, { Tensor }]) => {
    const a = Tensor.from(Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 13) - 6), [64, 64]);
    for (let i = 0; i < 20; i++) matmul(a, a);
    parentPort.postMessage(matmul(a, a).toArray());
  });`;

test("the addon loads in several threads at once, computes the same in all, and unloads", async (t) => {
  const a = Tensor.from(
    Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 13) - 6),
    [64, 64],
  );
  const expected = matmul(a, a).toArray();
  for (let round = 0; round < 3; round++) {
    const workers = Array.from({ length: 4 }, () => new Worker(source, { eval: true }));
    const exits = workers.map((worker) => once(worker, "exit"));
    for (const [product] of await Promise.all(workers.map((worker) => once(worker, "message")))) t.deepEqual(product, expected);
    for (const [status] of await Promise.all(exits)) t.is(status, 0);
  }
  t.deepEqual(matmul(a, a).toArray(), expected);
});

test("a thread that is stopped while it computes leaves the others working", async (t) => {
  const busy = new Worker(source.replace("i < 20", "i < 1e9").replace("for (", "parentPort.postMessage(0); for ("), { eval: true });
  await once(busy, "message");
  await busy.terminate();
  const a = Tensor.from(
    Float32Array.from({ length: 64 * 64 }, (_, i) => i % 5),
    [64, 64],
  );
  t.deepEqual(matmul(a, a).toArray(), matmul(a, a).toArray());
});
