import test from "ava";
import {
  availableInstructionSets,
  linear,
  matmul,
  PackedMatrix,
  packedLinear,
  packWeight,
  scaledSum,
  SequenceOffsets,
  setInstructionSet,
  setThreadCount,
  silu,
  Tape,
  Tensor,
  threadCount,
  unpackWeight,
  UsmLiteError,
  type LinearOptions,
} from "../lib/operations.js";
import { adaptedLinear } from "../lib/nn/adapted_linear.js";
import { frozenLinear } from "../lib/ops/frozen_linear.js";
import { addLowRank, lowRankSum, type LowRankFactors } from "../lib/ops/low_rank.js";
import { checkGradients, randomTensor } from "./gradient.js";
import { agreeOnAllInstructionSets, relativeDifference } from "./instruction_sets.js";

const threads = threadCount();
test.afterEach.always(() => {
  setInstructionSet(availableInstructionSets().at(-1) ?? "reference");
  setThreadCount(threads);
});

const factorsOf = (rank: number, input: number, out: number, seed: number): LowRankFactors => ({
  down: randomTensor([rank, input], seed),
  up: randomTensor([rank, out], seed + 1),
});

test.serial("runs of rows get what their factors say, on every instruction set", (t) => {
  for (const [index, [lengths, input, out, ranks]] of (
    [
      [[5], 16, 16, [4]],
      [[1, 0, 7, 3], 33, 70, [1, 5, 9, 0]],
      [[40, 2, 70], 100, 37, [8, 0, 3]],
      [[3, 66], 192, 384, [13, 4]],
    ] as const
  ).entries()) {
    const offsets = new SequenceOffsets(lengths);
    const x = randomTensor([offsets.frames, input], index);
    const before = randomTensor([offsets.frames, out], index + 10);
    const factors = ranks.map((rank, run) => (rank === 0 ? undefined : factorsOf(rank, input, out, 20 * index + run)));
    for (const activation of ["none", "relu", "silu"] as const) {
      const added = (): Tensor => {
        const y = before.clone();
        addLowRank(y, x, offsets, factors, { scale: 0.5, activation });
        return y;
      };
      agreeOnAllInstructionSets(t, `case ${index} ${activation}`, () => [added()]);
      const result = added();
      lengths.forEach((length, run) => {
        const [begin, end] = [offsets.begin(run), offsets.begin(run) + length];
        const one = factors[run];
        if (length === 0) return;
        const sum = before.rows(begin, end).toArray();
        if (one)
          matmul(matmul(x.rows(begin, end), one.down, { transposeB: true }), one.up)
            .toArray()
            .forEach((value, i) => (sum[i] = (sum[i] as number) + 0.5 * value));
        const expected = sum.map((value) =>
          activation === "none" ? value : activation === "relu" ? Math.max(0, value) : value / (1 + Math.exp(-value)),
        );
        t.true(relativeDifference(result.rows(begin, end).toArray(), expected) < 1e-5, `case ${index} ${activation}, run ${run}`);
      });
    }
  }
});

test.serial("a row depends neither on the other rows nor on the number of threads", (t) => {
  const offsets = new SequenceOffsets([130, 41, 200]);
  const x = randomTensor([371, 96], 1);
  const y = randomTensor([371, 80], 2);
  const factors = [factorsOf(4, 96, 80, 3), undefined, factorsOf(7, 96, 80, 5)];
  const all = y.clone();
  addLowRank(all, x, offsets, factors, { activation: "silu" });
  for (const count of [1, 2, 3]) {
    setThreadCount(count);
    const again = y.clone();
    addLowRank(again, x, offsets, factors, { activation: "silu" });
    t.deepEqual(again.toArray(), all.toArray());
  }
  for (const [begin, end, run] of [
    [0, 1, 0],
    [130, 171, 1],
    [180, 187, 2],
    [370, 371, 2],
  ] as const) {
    const alone = Tensor.from(y.rows(begin, end).toArray(), [end - begin, 80]);
    addLowRank(alone, x.rows(begin, end), new SequenceOffsets([end - begin]), [factors[run]], { activation: "silu" });
    t.deepEqual(alone.toArray(), all.rows(begin, end).toArray());
  }
  t.deepEqual(all.rows(130, 171).toArray(), silu(y.rows(130, 171)).toArray(), "a run without factors is what it was, to the bit");
});

test.serial("rows without an adapter are to the bit what they are where nobody has one", (t) => {
  const [input, out] = [70, 48];
  const offsets = new SequenceOffsets([9, 5, 20]);
  const x = randomTensor([34, input], 1);
  const bias = randomTensor([out], 2);
  const residual = randomTensor([34, out], 3);
  const factors = factorsOf(3, input, out, 4);
  const adapters = [new Map([["w", factors]]), undefined, new Map([["other", factors]])];
  for (const spec of ["int8", "int4+2:4", "nf4/g64", "float32"]) {
    const packed = packWeight(randomTensor([out, input], 6), spec);
    const weight = spec === "float32" ? unpackWeight(packed).weight : PackedMatrix.from(packed);
    const plain = (options: LinearOptions): Tensor =>
      weight instanceof Tensor ? linear(x, weight, { bias, ...options }) : packedLinear(x, weight, { bias, ...options });
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      for (const options of [{ activation: "silu" }, { activation: "relu" }, { scale: 0.5, residual, residualScale: 1.5 }] as const) {
        const mixed = adaptedLinear({ name: "w", weight, bias }, x, options, { kind: "sequences", offsets, adapters });
        const expected = plain(options);
        t.deepEqual(mixed.rows(9, 34).toArray(), expected.rows(9, 34).toArray(), `${set} ${spec} ${JSON.stringify(Object.keys(options))}`);
        t.notDeepEqual(mixed.rows(0, 9).toArray(), expected.rows(0, 9).toArray());
      }
    }
  }
});

test("gradients of what is added", (t) => {
  const inputs = [randomTensor([3, 5], 1), randomTensor([3, 4], 2), randomTensor([2, 4], 3), randomTensor([2, 5], 4)];
  // `y` is taken over, so each call gets a sum of its own.
  checkGradients(
    t,
    ([y, x, down, up]) =>
      lowRankSum(scaledSum(y as Tensor, 1, y as Tensor, 1), x as Tensor, { down: down as Tensor, up: up as Tensor }, { scale: 0.5 }),
    inputs,
  );
});

test.serial("the gradient of a packed layer is the product with its dequantized weight, for every spec", (t) => {
  const specs = [
    "int8",
    "int4",
    "int4/g32",
    "int2",
    "int1",
    "int6",
    "uint4/g64",
    "midrise4+2:4",
    "ternary",
    "ternary/g128+2:4",
    "nf4/g64",
    "nf4+1:4",
    "int4+2:4",
    "int8+1:4",
    "int4+3:5",
    "uint3+2:4",
    "2:4",
    "float32",
  ];
  for (const [index, spec] of specs.entries()) {
    for (const [frames, out, input] of [
      [1, 1, 1],
      [5, 33, 70],
      [13, 130, 128],
    ] as const) {
      const packed = packWeight(randomTensor([out, input], index), spec);
      using matrix = PackedMatrix.from(packed);
      const { weight } = unpackWeight(packed);
      const seed = randomTensor([frames, out], 7);
      const residual = randomTensor([frames, out], 8);
      for (const set of availableInstructionSets()) {
        setInstructionSet(set);
        using tape = new Tape();
        const x = randomTensor([frames, input], index + 50);
        x.requiresGrad = residual.requiresGrad = true;
        const y = tape.record(() => frozenLinear(x, matrix, { scale: 0.5, residual, residualScale: 1.5 }));
        t.deepEqual(y.toArray(), packedLinear(x, matrix, { scale: 0.5, residual, residualScale: 1.5 }).toArray());
        tape.backward(y, seed.clone());
        const expected = matmul(seed, weight, { scale: 0.5 }).toArray();
        t.true(
          relativeDifference(tape.gradientOf(x)?.toArray() as Float32Array, expected) < 1e-5,
          `${set} ${spec} (${frames}, ${out}, ${input})`,
        );
        t.deepEqual(
          tape.gradientOf(residual)?.toArray(),
          seed.toArray().map((value) => Math.fround(1.5 * value)),
        );
      }
    }
  }
});

test("gradients of a frozen layer are those of finite differences", (t) => {
  const packed = packWeight(randomTensor([6, 8], 1), "int4/g32");
  const matrix = PackedMatrix.from(packed);
  checkGradients(
    t,
    ([x, residual]) =>
      frozenLinear(x as Tensor, matrix, { scale: 2, residual: residual as Tensor, residualScale: 0.5, activations: "float32" }),
    [randomTensor([3, 8], 2), randomTensor([3, 6], 3)],
  );
  matrix.dispose();
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const [y, x] = [Tensor.zeros([4, 6]), Tensor.zeros([4, 5])];
  const runs = new SequenceOffsets([4]);
  t.throws(() => addLowRank(y, x, runs, [factorsOf(2, 6, 6, 1)]), { ...invalid, message: /do not fit a layer from 5 to 6/ });
  t.throws(() => addLowRank(y, x, runs, [{ down: Tensor.zeros([2, 5]), up: Tensor.zeros([3, 6]) }]), invalid);
  t.throws(() => addLowRank(y, x, runs, []), { ...invalid, message: /each of 1 runs/ });
  t.throws(() => addLowRank(y, x, new SequenceOffsets([3]), [undefined]), { ...invalid, message: /offsets/ });
  t.throws(() => addLowRank(y, Tensor.zeros([3, 5]), runs, [undefined]), invalid);
  t.throws(() => addLowRank(y, x, runs, [undefined], { activation: "gelu" as "relu" }), invalid);
});
