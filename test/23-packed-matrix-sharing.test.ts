import { Worker } from "node:worker_threads";
import test from "ava";
import { memoryStatistics, PackedMatrix, packedLinear, packWeight, Tensor, tidy } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";

/** What a worker that gets the matrix by number computes with it. */
function multiplyInWorker(id: number, x: Float32Array): Promise<Float32Array> {
  const index = new URL("../lib/operations.js", import.meta.url).href;
  const source = `
    import { parentPort, workerData } from "node:worker_threads";
    const { PackedMatrix, packedLinear, Tensor } = await import(${JSON.stringify(index)});
    const matrix = PackedMatrix.fromShared(workerData.id);
    const y = packedLinear(Tensor.from(workerData.x, [workerData.x.length / matrix.columns, matrix.columns]), matrix).toArray();
    matrix.dispose(); // before the answer, so that who has it knows that this user is gone
    parentPort.postMessage(y);`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), { workerData: { id, x } });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

test("workers multiply by one matrix, whose memory goes with its last user", async (t) => {
  const columns = 512;
  const packed = packWeight(randomTensor([512, columns], 1), "int4+2:4");
  const matrix = PackedMatrix.from(packed);
  for (const tensor of [packed.packed, packed.scale, packed.mask]) tensor?.dispose();
  const id = matrix.share();
  t.is(matrix.share(), id);
  const x = randomValues(3 * columns, 2);
  const expected = tidy(() => packedLinear(Tensor.from(x, [3, columns]), matrix).toArray());
  const results = await Promise.all([multiplyInWorker(id, x), multiplyInWorker(id, x), multiplyInWorker(id, x)]);
  for (const result of results) t.deepEqual(result, expected);

  const second = PackedMatrix.fromShared(id);
  matrix.dispose();
  t.deepEqual(
    tidy(() => packedLinear(Tensor.from(x, [3, columns]), second).toArray()),
    expected,
  );
  const resident = second.residentBytes;
  const withMatrix = memoryStatistics().bytesInUse;
  second.dispose();
  t.true(withMatrix - memoryStatistics().bytesInUse > resident * 0.9);
  t.throws(() => PackedMatrix.fromShared(id), { code: "INVALID_ARGUMENT" });
});
