/** Scales that are quantized as well: `/dq`. */
import "./gpu.js";
import { join } from "node:path";
import test from "ava";
import {
  availableInstructionSets,
  bitsPerWeight,
  compressModel,
  DeviceWeight,
  dryRun,
  fakeQuantize,
  formatWeightSpec,
  groupScales,
  loadModel,
  measureModel,
  packedBytes,
  packedLinear,
  PackedMatrix,
  Recognizer,
  packWeight,
  parseRecipe,
  parseWeightSpec,
  setInstructionSet,
  Tensor,
  unpackWeight,
  UsmLiteError,
  type PackedWeight,
} from "../lib/index.js";
import { randomTensor, randomValues } from "./gradient.js";
import { roundToNearest } from "./recipes.js";
import { editWeights, temporaryFolder, tones, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";
import { roundHalfEven } from "./round_half_even.js";

const specs = ["nf4/g64/dq", "nf4/g32/dq+2:4", "int4/g128/dq", "int3/g32/dq+3:5", "ternary/g64/dq", "midrise2/g32/dq+2:4"];
const shapes = [
  [1, 1],
  [3, 70],
  [5, 128, 1],
  [2, 50, 3],
  [70, 300],
];

test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

/** The definition, in plain arithmetic: scales of the spec without `/dq`, of weights none of whose groups is zero. */
function expectedScales(scales: Float32Array): { codes: number[]; steps: number[]; scales: number[] } {
  const mean = Math.fround(scales.reduce((sum, scale) => sum + scale, 0) / scales.length);
  const result: { codes: number[]; steps: number[]; scales: number[] } = { codes: [], steps: [mean], scales: [] };
  for (let begin = 0; begin < scales.length; begin += 256) {
    const block = scales.subarray(begin, begin + 256);
    const distances = block.map((scale) => scale - mean);
    const step = Math.fround(distances.reduce((most, distance) => Math.max(most, Math.abs(distance)), 0) / 127) || 1;
    result.steps.push(step);
    for (const distance of distances) {
      const code = roundHalfEven(Math.fround(distance / step));
      result.codes.push(code + 128);
      result.scales.push(Math.fround(mean + step * code));
    }
  }
  return result;
}

const without = (spec: string): string => spec.replace("/dq", "");
const numbers = (tensor: Tensor | undefined): number[] => [...(tensor as Tensor).toArray()];
const bits = (tensor: Tensor): Int32Array => new Int32Array(tensor.toArray().buffer);

test("the spec parses and prints, and belongs to grouped scales without zero points", (t) => {
  t.deepEqual(parseWeightSpec("nf4/g64/dq"), { text: "nf4/g64/dq", format: "nf4", bits: 4, groupSize: 64, doubleQuantized: true });
  for (const spec of specs) t.is(formatWeightSpec(parseWeightSpec(spec)), spec);
  for (const wrong of [
    "nf4/dq",
    "float32/dq",
    "uint4/g32/dq",
    "nf4/dq/g64",
    "nf4/g64/dq/dq",
    "nf4/g64/",
    "nf4/g64/DQ",
    "nf4+2:4/dq",
    "/dq",
  ]) {
    t.throws(() => parseWeightSpec(wrong), { instanceOf: UsmLiteError, code: "UNSUPPORTED_SPEC" }, wrong);
  }
});

test("codes, steps and weights follow the definition, and the round trip is exact", (t) => {
  for (const spec of specs) {
    for (const [index, shape] of shapes.entries()) {
      const weight = randomTensor(shape, index + 1);
      const packed = packWeight(weight, spec);
      const plain = packWeight(weight, without(spec));
      const expected = expectedScales((plain.scale as Tensor).toArray());
      t.is(packed.scale?.dtype, "uint8");
      t.deepEqual(packed.scale?.shape, plain.scale?.shape);
      t.deepEqual(numbers(packed.scale), expected.codes, `${spec} (${shape})`);
      t.deepEqual(numbers(packed.scaleSteps), expected.steps);
      // The weights are those of the plain spec with the scales that the codes stand for.
      const scale = Tensor.from(expected.scales, plain.scale?.shape);
      const given = packWeight(weight, without(spec), undefined, { scale });
      t.deepEqual(numbers(packed.packed), numbers(given.packed));
      t.deepEqual(bits(unpackWeight(packed).weight), bits(unpackWeight(given).weight));
      const [rows, columns] = [shape[0] as number, (shape[1] as number) * (shape[2] ?? 1)];
      const { codes, scales } = packedBytes(spec, rows, columns);
      t.is(codes, packedBytes(without(spec), rows, columns).codes);
      t.is(scales, (packed.scale?.size ?? 0) + 4 * (packed.scaleSteps?.size ?? 0));
    }
  }
  // QLoRA: 0.127 bits a weight for the scales of 64 weights instead of 0.5.
  t.is(bitsPerWeight("nf4/g64", 1024, 1024), 4.5);
  t.true(Math.abs(bitsPerWeight("nf4/g64/dq", 1024, 1024) - (4 + 8 / 64 + 32 / (64 * 256))) < 1e-4);
});

test.serial("training sees the packed weight, to the bit, and products use it", (t) => {
  const x = randomTensor([5, 300], 9);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const spec of specs) {
      const weight = randomTensor([70, 300], 4);
      const packed = packWeight(weight, spec);
      const unpacked = unpackWeight(packed);
      t.deepEqual(bits(fakeQuantize(weight, spec)), bits(unpacked.weight), `${set} ${spec}`);
      const scales = groupScales(weight, without(spec), parseWeightSpec(spec).sparsity ? { mask: unpacked.mask } : {});
      using matrix = PackedMatrix.from(packed);
      using rounded = PackedMatrix.round(weight, spec, { scale: scales.scale, mask: unpacked.mask });
      t.is(matrix.spec, spec);
      const product = packedLinear(x, matrix);
      t.deepEqual(bits(packedLinear(x, rounded)), bits(product), `${set} ${spec}`);
      using plain = PackedMatrix.from(
        packWeight(weight, without(spec), parseWeightSpec(spec).sparsity && unpacked.mask, { scale: expandedScale(packed) }),
      );
      t.deepEqual(bits(packedLinear(x, plain)), bits(product), `${set} ${spec}`);
    }
  }
});

/** float32 scales of a packed weight. */
function expandedScale({ scale, scaleSteps }: PackedWeight): Tensor {
  const [mean, ...steps] = numbers(scaleSteps) as [number, ...number[]];
  return Tensor.from(
    numbers(scale).map((code, i) => Math.fround(mean + (steps[Math.floor(i / 256)] as number) * (code - 128))),
    scale?.shape,
  );
}

test("scales far apart stay positive, and groups of zeros widen no step", (t) => {
  // One weight a thousand times the others: the nearest code of small scales would stand for a negative one.
  const uneven = Float32Array.from(randomValues(4 * 256, 3), (value, i) => (i === 700 ? 1e3 : value * 1e-2));
  const packed = packWeight(Tensor.from(uneven, [4, 256]), "nf4/g32/dq");
  t.true(numbers(expandedScale(packed)).every((scale) => scale > 0));
  t.true(unpackWeight(packed).weight.toArray().every(Number.isFinite));
  t.deepEqual(bits(fakeQuantize(Tensor.from(uneven, [4, 256]), "nf4/g32/dq")), bits(unpackWeight(packed).weight));
  // Without weights the scale would be 1.
  const sparse = Float32Array.from(randomValues(4 * 256, 3), (value, i) => (i % 256 < 64 ? 0 : value * 1e-2));
  const weight = Tensor.from(sparse, [4, 256]);
  const error = (spec: string): number => {
    const values = unpackWeight(packWeight(weight, spec)).weight.toArray();
    return values.reduce((sum, value, i) => sum + (value - (sparse[i] as number)) ** 2, 0);
  };
  t.true(error("nf4/g64/dq") < 1.02 * error("nf4/g64"));
  for (const values of [
    [0, 0],
    [1e-45, 0],
    [3.4e38, -3.4e38],
    [1e-40, 3.4e38],
  ]) {
    const extreme = Tensor.from(
      Array.from({ length: 96 }, (_, i) => values[i % 64 < 32 ? 0 : 1] as number),
      [1, 96],
    );
    t.true(unpackWeight(packWeight(extreme, "int4/g32/dq")).weight.toArray().every(Number.isFinite), String(values));
  }
  const scale = Tensor.from([1, -1, 1, 1], [1, 4]);
  const bad = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  t.throws(() => packWeight(randomTensor([1, 128], 1), "nf4/g32/dq", undefined, { scale }), bad);
  t.throws(() => fakeQuantize(randomTensor([1, 128], 1), "nf4/g32/dq", { scale }), bad);
});

test("hostile codes of scales are refused", (t) => {
  const bad = { instanceOf: UsmLiteError, code: "BAD_CHECKPOINT" };
  const packed = packWeight(randomTensor([3, 200], 1), "nf4/g64/dq"); // 12 scales
  const codes = numbers(packed.scale);
  const [mean, step] = numbers(packed.scaleSteps) as [number, number];
  const refuse = (changed: Partial<PackedWeight>, message: RegExp): void => {
    t.throws(() => unpackWeight({ ...packed, ...changed }), { ...bad, message });
    t.throws(() => PackedMatrix.from({ ...packed, ...changed }), { ...bad, message });
  };
  refuse({ scale: Tensor.from([0, ...codes.slice(1)], [3, 4], "uint8") }, /the code 0/);
  refuse({ scale: Tensor.from(codes.slice(1), [11], "uint8") }, /weight_scale has 11 bytes/);
  refuse({ scaleSteps: Tensor.from([mean], [1]) }, /weight_scale_steps has 4 bytes; .* needs 8/);
  refuse({ scaleSteps: Tensor.from([mean, step, step], [3]) }, /weight_scale_steps has 12 bytes/);
  for (const wrong of [0, -1, NaN, Infinity]) {
    refuse({ scaleSteps: Tensor.from([wrong, step], [2]) }, /weight_scale_steps holds/);
    refuse({ scaleSteps: Tensor.from([mean, wrong], [2]) }, /weight_scale_steps holds/);
  }
  refuse({ scaleSteps: Tensor.from([mean, 1e3], [2]) }, /weight_scale stands for/);
  refuse({ scaleSteps: Tensor.from([mean, 3e38], [2]) }, /weight_scale stands for/);
  const { scaleSteps: _, ...stepless } = packed;
  t.throws(() => unpackWeight(stepless), { ...bad, message: /weight_scale_steps has 0 bytes/ });
  t.throws(() => unpackWeight({ ...packed, spec: "nf4/g64" }), { instanceOf: UsmLiteError });
});

test("weights on the GPU are those of the scales that codes stand for", (t) => {
  const packed = packWeight(randomTensor([48, 128], 5), "nf4/g64/dq");
  const plain = { spec: "nf4/g64", shape: packed.shape, packed: packed.packed, scale: expandedScale(packed) };
  using coded = DeviceWeight.from(packed);
  using expanded = DeviceWeight.from(plain);
  t.is(coded.spec, "nf4/g64/dq");
  t.deepEqual(coded.read(), expanded.read());
});

const folder = temporaryFolder("double-quantization");
test.after.always(folder.clean);

test("a model is packed to the size that a dry run says, in one shot and by training, and damaged scales are refused", async (t) => {
  const float = writeTinyModel(join(folder.path, "float"), { languageModel: false });
  const model = join(folder.path, "packed");
  const recipe = roundToNearest("nf4/g32/dq", { "*.feed_forward*": "int4/g32/dq+2:4" });
  const predicted = dryRun({ model: float, recipe, manifest: undefined });
  await compressModel({ model: float, recipe, manifest: undefined, out: model });
  t.deepEqual(measureModel(model).layers, predicted.size.layers);
  const heard = (weights: "packed" | "float32"): string => new Recognizer(loadModel(model, { weights })).transcribe(tones(1, 1)).text;
  t.is(typeof heard("packed"), typeof heard("float32"));
  const modifiers = [{ type: "quantization", spec: "nf4/g32/dq", learned: true }];
  const trained = join(folder.path, "trained");
  const training = parseRecipe(JSON.stringify({ stages: [{ modifiers, training: { steps: 2, speedPerturbation: false } }] }), "r");
  await compressModel({ model: float, recipe: training, manifest: writeTinyCorpus(join(folder.path, "corpus"), 4), out: trained });
  t.deepEqual(new Set(measureModel(trained).layers.map(({ spec }) => spec)), new Set(["nf4/g32/dq"]));
  editWeights(model, (tensors) => {
    const [name] = [...tensors.keys()].filter((key) => key.endsWith(".weight_scale_steps")) as [string];
    const shape = tensors.get(name)?.shape as readonly [number];
    tensors.set(name, { dtype: "F32", shape, data: new Float32Array(shape[0]).fill(NaN) });
  });
  t.throws(() => loadModel(model), { instanceOf: UsmLiteError, code: "BAD_CHECKPOINT", message: /weight_scale_steps holds nan/ });
});
