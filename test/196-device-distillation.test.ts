/** Distances from a teacher on the GPU, in logits and hidden states. */
import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceTensor, Tensor } from "../lib/operations.js";
import { deviceWeightOfOthers } from "../lib/device/softmax_divergence.js";
import { relativeMeanSquare } from "../lib/ops/mean_square.js";
import { softmax } from "../lib/ops/softmax.js";
import { softmaxDivergence } from "../lib/ops/softmax_divergence.js";
import { onBoth, outcome, rounded } from "./both_devices.js";
import { randomTensor } from "./gradient.js";

test("the divergence from a teacher, hidden and in logits, is that of the CPU", (t) => {
  for (const [frames, columns, temperature] of [
    [5, 31, 1],
    [9, 70, 2.5],
  ] as const) {
    const both = onBoth<"student" | "teacher">({ student: rounded([frames, columns], 1), teacher: rounded([frames, columns], 2) }, [
      "student",
      "teacher",
    ]);
    const weights = Float32Array.from({ length: frames }, (_, row) => row % 3); // some rows take no part
    for (const measure of [
      ({ student, teacher }: typeof both.cpu) => softmaxDivergence(student, teacher, { temperature, weights }),
      ({ student, teacher }: typeof both.cpu) => softmaxDivergence(student, teacher, { temperature }),
      ({ student, teacher }: typeof both.cpu) => relativeMeanSquare(student, teacher),
    ]) {
      const run = (inputs: typeof both.cpu, upload: (x: Tensor) => Tensor): Record<string, Float32Array> =>
        outcome({ student: inputs.student }, upload(Tensor.from([3])), () => measure(inputs));
      const [expected, found] = [run(both.cpu, (x) => x), run(both.gpu, (x) => DeviceTensor.from(x, "float32"))];
      for (const name of ["output", "student"])
        assertClose(t, found[name] as Float32Array, expected[name] as Float32Array, 1e-2, `${name} of ${frames} rows`);
    }
    const others = softmax(both.cpu.teacher)
      .toArray()
      .filter((_, i) => i % columns === 3)
      .map((probability) => 1 - probability);
    const teacher = both.gpu.teacher as DeviceTensor;
    const weighted = deviceWeightOfOthers(teacher, 3, { whole: false });
    assertClose(t, weighted.toArray(), others, 1e-5, "probability of other columns");
    t.deepEqual(
      deviceWeightOfOthers(teacher, 3, { whole: true }).toArray(),
      others.map((one) => Number(one > 0.5)),
    );
    // Weights that are on the GPU, as those are, give what the same ones from the CPU give.
    const [student, temperatures] = [both.gpu.student, { temperature }];
    t.deepEqual(
      softmaxDivergence(student, teacher, { ...temperatures, weights: weighted }).toArray(),
      softmaxDivergence(student, teacher, { ...temperatures, weights: weighted.toArray() }).toArray(),
    );
  }
  const [student, other] = [DeviceTensor.zeros([4, 8]), DeviceTensor.zeros([4, 9])];
  t.throws(() => softmaxDivergence(student, other), { code: "INVALID_ARGUMENT", message: /teacher/ });
  t.throws(() => softmaxDivergence(student, Tensor.zeros([4, 8])), { code: "INVALID_ARGUMENT", message: /teacher is on the CPU/ });
  t.throws(() => deviceWeightOfOthers(student, 8, { whole: true }), { code: "INVALID_ARGUMENT", message: /column/ });
  t.throws(() => softmaxDivergence(Tensor.zeros([4, 8]), Tensor.zeros([4, 8]), { weights: DeviceTensor.zeros([4], "float32") }), {
    code: "INVALID_ARGUMENT",
    message: /weights on the GPU/,
  });
  t.throws(() => softmaxDivergence(student, student, { weights: DeviceTensor.zeros([3], "float32") }), {
    code: "INVALID_ARGUMENT",
    message: /4 rows but 3 weights/,
  });
});

test("rows of weight zero take no part, whatever they hold, and without any there is no distance", (t) => {
  const [frames, columns] = [4, 9];
  const values = randomTensor([frames, columns], 1).toArray();
  values.fill(NaN, columns, 2 * columns);
  const broken = Tensor.from(values, [frames, columns]);
  const both = onBoth<"student" | "teacher">({ student: broken, teacher: rounded([frames, columns], 2) }, ["student", "teacher"]);
  const run = (weights: readonly number[]): Record<string, Float32Array> =>
    outcome({ student: both.gpu.student }, DeviceTensor.from(Tensor.from([1]), "float32"), () =>
      softmaxDivergence(both.gpu.student, both.gpu.teacher, { weights: Float32Array.from(weights) }),
    );
  const some = run([1, 0, 2, 1]);
  t.true([...(some["output"] as Float32Array), ...(some["student"] as Float32Array)].every(Number.isFinite));
  t.true(Number.isNaN(run([1, 1, 1, 1])["output"]?.[0]));
  const none = run([0, 0, 0, 0]);
  t.deepEqual([...(none["output"] as Float32Array), ...new Set(none["student"])], [0, 0]);
});

test("the squared distance of many rows is that of the CPU, of float32 too, and none from zero is none", (t) => {
  for (const [rows, columns, type] of [
    [2100, 3, "bfloat16"], // more rows than the blocks of a launch take at once
    [7, 33, "float32"],
    [1, 1, "float32"],
  ] as const) {
    const [student, teacher] = [rounded([rows, columns], 1), rounded([rows, columns], 2)];
    const [mine, theirs] = [student, teacher].map((x) => DeviceTensor.from(x, type)) as [DeviceTensor, DeviceTensor];
    const found = relativeMeanSquare(mine, theirs).toArray();
    assertClose(t, found, relativeMeanSquare(student, teacher).toArray(), 1e-5, `${rows} x ${columns}, ${type}`);
    t.deepEqual(relativeMeanSquare(mine, theirs).toArray(), found);
  }
  const zeros = DeviceTensor.zeros([3, 8]);
  t.is(relativeMeanSquare(zeros, zeros).toArray()[0], 0);
  t.is(relativeMeanSquare(DeviceTensor.from(rounded([3, 8], 1)), zeros).toArray()[0], Infinity);
  t.throws(() => relativeMeanSquare(zeros, DeviceTensor.zeros([3, 8], "float32")), {
    code: "INVALID_ARGUMENT",
    message: /teacher is float32/,
  });
});
