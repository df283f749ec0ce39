import test from "ava";
import { addLayerNorm, layerNorm, Tape, Tensor } from "../lib/operations.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets } from "./instruction_sets.js";

const shapes = [
  [1, 1],
  [3, 7],
  [5, 64],
  [17, 176],
  [130, 257],
] as const;

test("layerNorm follows its formula", (t) => {
  const y = layerNorm(Tensor.from([1, 3, 5, 5], [2, 2]), Tensor.from([2, 10]), { bias: Tensor.from([0.5, 0]), epsilon: 0 });
  t.deepEqual([...y.toArray()].slice(0, 2), [-1.5, 10]);
  const flat = layerNorm(Tensor.from([5, 5], [1, 2]), Tensor.from([1, 1]), { epsilon: 1e-6 });
  t.deepEqual([...flat.toArray()], [0, 0]);
});

test("layerNorm and its gradients agree on every instruction set", (t) => {
  for (const [frames, hidden] of shapes) {
    agreeOnAllInstructionSets(t, `(${frames}, ${hidden})`, () => {
      const x = randomTensor([frames, hidden], 1);
      const weight = randomTensor([hidden], 2);
      const bias = randomTensor([hidden], 3);
      for (const input of [x, weight, bias]) input.requiresGrad = true;
      const tape = new Tape();
      const y = tape.record(() => layerNorm(x, weight, { bias, epsilon: 1e-5 }));
      tape.backward(y, randomTensor([frames, hidden], 4));
      return [y, ...[x, weight, bias].map((input) => tape.gradientOf(input) as Tensor)];
    });
  }
});

test("layerNorm keeps its precision far from zero", (t) => {
  agreeOnAllInstructionSets(
    t,
    "offset 1000",
    () => {
      const x = Tensor.from(
        randomValues(4 * 200, 5).map((value) => 1000 + value),
        [4, 200],
      );
      return [layerNorm(x, Tensor.from(new Float32Array(200).fill(1)), { epsilon: 1e-6 })];
    },
    1e-3,
  );
});

test("addLayerNorm is the sum and its layerNorm, with the gradient of both", (t) => {
  const inputs = [randomTensor([4, 9], 1), randomTensor([4, 9], 2), randomTensor([9], 3), randomTensor([9], 4)];
  const both = ([x, y, weight, bias]: Tensor[]): { sum: Tensor; normalized: Tensor } =>
    addLayerNorm(x as Tensor, 1.5, y as Tensor, -0.5, weight as Tensor, { bias, epsilon: 1e-3 });
  const { sum, normalized } = both(inputs);
  const expected = layerNorm(sum, inputs[2] as Tensor, { bias: inputs[3], epsilon: 1e-3 }).toArray();
  t.deepEqual(normalized.toArray(), expected);
  const x = (inputs[0] as Tensor).toArray();
  const y = (inputs[1] as Tensor).toArray();
  sum.toArray().forEach((value, i) => t.true(Math.abs(value - (1.5 * (x[i] as number) - 0.5 * (y[i] as number))) < 1e-6));

  checkGradients(t, (tensors) => both(tensors).normalized, inputs);
  checkGradients(t, ([x, y]) => both([x as Tensor, y as Tensor, ...inputs.slice(2)]).sum, inputs.slice(0, 2));
});

test("addLayerNorm joins the gradients of its two outputs", (t) => {
  const [x, y, weight] = [randomTensor([3, 20], 1), randomTensor([3, 20], 2), randomTensor([20], 3)];
  const separate = (which: "sum" | "normalized"): Float32Array => {
    const tape = new Tape();
    x.requiresGrad = true;
    const outputs = tape.record(() => addLayerNorm(x, 2, y, 1, weight, { epsilon: 1e-5 }));
    tape.backward(outputs[which], randomTensor([3, 20], 4));
    return (tape.gradientOf(x) as Tensor).toArray();
  };
  const fromSum = separate("sum");
  const fromNormalized = separate("normalized");
  // normalized -> another addLayerNorm together with sum: both gradients arrive
  const tape = new Tape();
  const joined = tape.record(() => {
    const { sum, normalized } = addLayerNorm(x, 2, y, 1, weight, { epsilon: 1e-5 });
    return addLayerNorm(sum, 1, normalized, 1, weight, { epsilon: 1e-5 }).sum;
  });
  tape.backward(joined, randomTensor([3, 20], 4));
  (tape.gradientOf(x) as Tensor).toArray().forEach((value, i) => {
    t.true(Math.abs(value - (fromSum[i] as number) - (fromNormalized[i] as number)) < 1e-4);
  });
});

test("layer normalization refuses operands that do not fit", (t) => {
  const x = Tensor.zeros([2, 4]);
  const error = t.throws(() => layerNorm(x, Tensor.zeros([5]), { epsilon: 1e-5 }), { code: "INVALID_ARGUMENT" });
  t.regex(error?.message ?? "", /weight must have shape \(4\) but has \(5\)/);
  t.throws(() => layerNorm(x, Tensor.zeros([4]), { epsilon: -1 }), { code: "INVALID_ARGUMENT", message: /epsilon/ });
  t.throws(() => addLayerNorm(x, 1, Tensor.zeros([3, 4]), 1, Tensor.zeros([4]), { epsilon: 1e-5 }), {
    code: "INVALID_ARGUMENT",
    message: /y must have shape \(2, 4\)/,
  });
});
