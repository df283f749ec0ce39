import test from "ava";
import { availableInstructionSets, scaledSum, setInstructionSet, Tensor, tidy, UsmLiteError } from "../lib/operations.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";

test("a tensor returns the values it was made from", (t) => {
  const tensor = Tensor.from([1, 2, 3, 4, 5, 6], [2, 3]);
  t.deepEqual(tensor.shape, [2, 3]);
  t.deepEqual([...tensor.toArray()], [1, 2, 3, 4, 5, 6]);
  t.deepEqual([...tensor.rows(1, 2).toArray()], [4, 5, 6]);
  t.deepEqual([...tensor.reshape([3, 2]).rows(2, 3).toArray()], [5, 6]);
});

test("values may lie in memory that threads share", (t) => {
  const shared = new Float32Array(new SharedArrayBuffer(24), 8, 4);
  shared.set([1, 2, 3, 4]);
  const tensor = Tensor.from(shared);
  t.deepEqual([...tensor.toArray()], [1, 2, 3, 4]);
  shared.set([5, 6, 7, 8]);
  tensor.write(shared);
  t.deepEqual([...tensor.toArray()], [5, 6, 7, 8]);
});

test("tidy releases what is made inside, except the result", (t) => {
  let inner: Tensor | undefined;
  const result = tidy(() => {
    inner = Tensor.zeros([4]);
    return [Tensor.from([7])];
  });
  t.true(inner?.released);
  t.false(result[0]?.released);
});

test("misuse is a coded error", (t) => {
  const released = Tensor.zeros([2]);
  released.dispose();
  t.throws(() => released.toArray(), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
  t.throws(() => Tensor.from([1, 2, 3], [2]), { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" });
  t.throws(() => Tensor.zeros([-1]), { code: "INVALID_ARGUMENT" });
  t.throws(() => Tensor.zeros([2 ** 40, 2 ** 40]), { code: "INVALID_ARGUMENT" });
  t.throws(() => Tensor.zeros([2]).rows(1, 4), { code: "INVALID_ARGUMENT" });
  t.throws(() => setInstructionSet("sse9" as "avx2"), { code: "INVALID_ARGUMENT", message: /choose one of/ });
});

test("scaledSum agrees on every instruction set and has the right gradient", (t) => {
  const x = randomValues(1003, 1);
  const y = randomValues(1003, 2);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const sum = scaledSum(Tensor.from(x), 1.5, Tensor.from(y), 0.5).toArray();
    sum.forEach((value, i) => t.true(Math.abs(value - (1.5 * (x[i] as number) + 0.5 * (y[i] as number))) < 1e-6));
  }
  checkGradients(t, ([a, b]) => scaledSum(a as Tensor, 2, b as Tensor, -1), [randomTensor([3, 5], 3), randomTensor([3, 5], 4)]);
});
