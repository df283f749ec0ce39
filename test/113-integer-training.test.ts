import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  availableInstructionSets,
  compressModel,
  groupScales,
  integerLinear,
  linear,
  loadModel,
  magnitudeMask,
  packedLinear,
  PackedMatrix,
  packWeight,
  parseRecipe,
  parseWeightSpec,
  readSafetensors,
  roundRows,
  SequenceOffsets,
  setInstructionSet,
  Tape,
  Tensor,
  tidy,
  unpackWeight,
  WeightPruning,
  WeightQuantization,
  type ActivationCoding,
  type LinearOptions,
} from "../lib/index.js";
import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { randomTensor, randomValues } from "./gradient.js";
import { editJson, temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";
import { onEveryInstructionSet } from "./instruction_sets.js";

const folder = temporaryFolder("integer-training");
test.after.always(folder.clean);
test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

const codings: readonly ActivationCoding[] = ["int8", "int8-asymmetric", "int4"];
const specs = [
  "int8",
  "int4",
  "int4/g32",
  "int4+2:4",
  "int2",
  "uint4",
  "uint3/g32+2:4",
  "midrise2+2:4",
  "ternary",
  "nf4/g32",
  "int1",
  "int4+1:4",
];
const bits = (tensor: Tensor): Int32Array => new Int32Array(tensor.toArray().buffer);
test.serial("a weight that is rounded multiplies as the one that is packed, to the bit", (t) => {
  const weight = randomTensor([19, 84], 1);
  const x = randomTensor([5, 84], 2);
  onEveryInstructionSet((set) => {
    for (const text of specs) {
      const { sparsity } = parseWeightSpec(text);
      const mask = sparsity && magnitudeMask(weight, sparsity.kept, sparsity.of);
      const scales = groupScales(weight, text, { mask });
      using rounded = PackedMatrix.round(weight, text, { ...scales, mask });
      const packed = packWeight(weight, text, mask);
      using read = PackedMatrix.from(packed);
      // The dequantized weight rounds to the same levels.
      using again = PackedMatrix.round(unpackWeight(packed).weight, text, { ...scales, mask });
      for (const activations of codings) {
        const wanted = bits(packedLinear(x, read, { activations }));
        t.deepEqual(bits(packedLinear(x, rounded, { activations })), wanted, `${set} ${text} ${activations}`);
        t.deepEqual(bits(packedLinear(x, again, { activations })), wanted);
      }
    }
  });
});

test.serial("what is zero in a dense format multiplies as what is pruned in a sparse one", (t) => {
  const weight = randomTensor([19, 84], 3);
  const x = randomTensor([5, 84], 4);
  const mask = magnitudeMask(weight, 2, 4);
  onEveryInstructionSet((set) => {
    for (const format of ["int8", "int4", "int4/g32", "int3", "ternary", "nf4/g32"]) {
      const scales = groupScales(weight, format, { mask });
      using dense = PackedMatrix.round(weight, format, { ...scales, mask });
      using sparse = PackedMatrix.from(packWeight(weight, `${format}+2:4`, mask));
      t.deepEqual(bits(packedLinear(x, dense)), bits(packedLinear(x, sparse)), `${set} ${format}`);
    }
  });
});

test.serial("rows are rounded as the products round them", (t) => {
  const values = Float32Array.from([
    ...randomValues(37, 5),
    ...Array<number>(37).fill(0.5),
    ...Array<number>(37).fill(0),
    ...Array<number>(36).fill(1),
    NaN,
  ]);
  const x = Tensor.from(values, [4, 37]);
  const identity = Tensor.from(
    Float32Array.from({ length: 37 * 37 }, (_, i) => (i % 38 === 0 ? 1 : 0)),
    [37, 37],
  );
  onEveryInstructionSet((set) => {
    for (const activations of codings) {
      using matrix = PackedMatrix.from(packWeight(identity, "int8"));
      const seen = roundRows(x, activations).toArray();
      packedLinear(x, matrix, { activations })
        .toArray()
        .forEach((value, i) => {
          const found = seen[i] as number;
          t.true(
            i >= 111 ? Number.isNaN(found) : Math.abs(found - value) < 1e-5,
            `${set} ${activations} [${i}]: ${found} against ${value}`,
          );
        });
    }
  });
  t.throws(() => roundRows(x, "float32"), { code: "INVALID_ARGUMENT" });
});

test.serial("gradients are those of the float layer with rounded activations", (t) => {
  const weight = unpackWeight(packWeight(randomTensor([6, 33], 1), "int4")).weight;
  const [x, bias, residual] = [randomTensor([4, 33], 2), randomTensor([6], 3), randomTensor([4, 6], 4)];
  const upstream = randomTensor([4, 6], 5);
  const run = (input: Tensor, body: (input: Tensor, options: LinearOptions) => Tensor, options: LinearOptions): Float32Array[] => {
    const inputs = [input, weight, bias, ...(options.residual ? [residual] : [])];
    for (const one of inputs) one.requiresGrad = true;
    using tape = new Tape();
    tape.backward(
      tape.record(() => body(input, { ...options, bias })),
      upstream.clone(),
    );
    return inputs.map((one) => (tape.gradientOf(one) as Tensor).toArray());
  };
  for (const activations of codings) {
    using packed = PackedMatrix.round(weight, "int4", { ...groupScales(weight, "int4"), activations });
    for (const options of [
      {},
      { activation: "silu", scale: 0.5, residual, residualScale: 2 },
      { activation: "relu", residual },
    ] as LinearOptions[]) {
      const found = run(x, (input, all) => integerLinear(input, { weight, packed }, all), options);
      const wanted = run(roundRows(x, activations), (input, all) => linear(input, weight, all), options);
      found.forEach((gradient, i) =>
        gradient.forEach((value, j) => t.true(Math.abs(value - (wanted[i]?.[j] as number)) < 1e-5, `${activations} ${i} [${j}]`)),
      );
    }
    const dropped = integerLinear(x, { weight, packed }, { dropout: { probability: 0.5, seed: 1 }, scale: 0.5, residual }).toArray();
    t.true(dropped.some((value, i) => value === residual.toArray()[i]));
  }
});

const float = writeTinyModel(join(folder.path, "float"));
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 3);
const offsets = new SequenceOffsets([90, 41]);
const features = randomValues(offsets.frames * 128, 3).map((value) => 4 * value - 4);

test.serial("the forward pass of training is that of the packed model, to the bit", async (t) => {
  for (const [index, [spec, pattern, activations]] of (
    [
      ["int8", "2:4", "int8"],
      ["int4", undefined, "int8"],
      ["int4", "2:4", "int4"],
      ["midrise2/g32", "2:4", "int8"], // whose first mask is 3:4
    ] as const
  ).entries()) {
    const out = join(folder.path, `packed-${index}`);
    const modifiers = [
      { type: "quantization", spec, scale: "edge", activations, targets: ["encoder.*"] },
      ...(pattern ? [{ type: "sparsity", pattern, schedule: "few-shot", shots: 2, interval: 1, gradual: true }] : []),
    ];
    const training = { steps: 2, warmUpSteps: 1, batchSeconds: 5, speedPerturbation: false, features: join(folder.path, "features") };
    t.true(
      await compressModel({
        model: float,
        recipe: parseRecipe(JSON.stringify({ stages: [{ name: "a", modifiers, training }] }), "r"),
        manifest,
        out,
      }),
    );
    const served = loadModel(out).network as LasrForCtc;
    const logits = (network: LasrForCtc, context: object = {}): Int32Array =>
      tidy(() => bits(network.forward(Tensor.from(features, [offsets.frames, 128]), offsets, context).logits));

    // The float weights that training ended with are in its last checkpoint.
    using checkpoint = readSafetensors(join(`${out}.run`, "checkpoints", "step-00000002.safetensors"));
    const network = loadModel(float).network as LasrForCtc;
    for (const [name, tensor] of network.parameters()) tensor.write(checkpoint.values(`parameter.${name}`));
    for (const [name, tensor] of network.buffers()) tensor.write(checkpoint.values(`buffer.${name}`));
    network.weightsChanged();
    const names = network.linearWeights().filter((name) => name.startsWith("encoder."));
    const masks = new Map<string, Tensor>();
    const plan = new Map(
      names.map((name) => [name, parseWeightSpec(spec + (pattern && !name.includes("subsampler") ? `+${pattern}` : ""))]),
    );
    const blocks = network.blockWeights();
    const pruning = new WeightPruning(network, new Map(pattern ? blocks.map((name) => [name, { kept: 2, of: 4 }]) : []), { masks });
    for (const name of pattern ? blocks : []) {
      pruning
        .state()
        .get(`mask.${name}`)
        ?.write(checkpoint.bytes(`modifier.mask.${name}`));
      masks.set(name, pruning.state().get(`mask.${name}`) as Tensor);
    }
    const quantization = new WeightQuantization(network, plan, { rule: { statistic: "edge" }, activations, masks });
    const context = {
      transformWeight: (name: string, weight: Tensor) => quantization.transformWeight(name, pruning.transformWeight(name, weight)),
      packedWeight: (name: string, weight: Tensor) => quantization.packedWeight(name, weight),
    };
    t.deepEqual(logits(network, context), logits(served), `${spec} ${pattern} ${activations}`);
    quantization.afterStep();
    t.notDeepEqual(logits(network, { transformWeight: context.transformWeight }), logits(served));
    quantization.dispose();
  }
});

test.serial("later stages multiply by the activations of the stage before, layer by layer, as the packed model does", async (t) => {
  const out = join(folder.path, "stages");
  // So slow that no weight leaves its level: what a stage loses tells what it multiplies by.
  const slow = { steps: 2, learningRate: 1e-12, weightDecay: 0, batchSeconds: 5, speedPerturbation: false, specAugment: false };
  const training = { ...slow, features: join(folder.path, "features") };
  const coded = [
    { type: "quantization", spec: "int4", activations: "int4" },
    { type: "quantization", spec: "int4", activations: "int8-asymmetric", targets: ["encoder.layers.1.*"] },
  ];
  const stages = [
    { name: "coded", modifiers: coded, training },
    { name: "silent", modifiers: [], training },
    { name: "named", modifiers: [{ type: "quantization" }], training },
    { name: "floats", modifiers: [{ type: "quantization", activations: "float32", targets: ["encoder.layers.0.*"] }], training },
  ];
  t.true(await compressModel({ model: float, recipe: parseRecipe(JSON.stringify({ stages }), "r"), manifest, out }));
  const losses = (stage: string): number[] =>
    readFileSync(join(`${out}.run`, stage, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { loss: number }).loss);
  t.deepEqual(losses("silent"), losses("coded"), "a stage that says nothing of them");
  t.deepEqual(losses("named"), losses("coded"), "a quantization without the key");
  t.notDeepEqual(losses("floats"), losses("coded"), "another value");
  const served = loadModel(out).compression.activations;
  t.is(served?.get("encoder.layers.0.self_attn.q_proj.weight"), "float32");
  t.is(served?.get("encoder.layers.1.self_attn.q_proj.weight"), "int8-asymmetric");
});

test.serial("what weights are multiplied by is said in config.json, and checked", (t) => {
  const out = join(folder.path, "packed-2");
  const names = loadModel(out).compression.activations;
  t.is(names?.get("encoder.layers.0.self_attn.q_proj.weight"), "int4");
  editJson(join(out, "config.json"), (json) => {
    (json["usm_lite"] as { activations: Record<string, string[]> }).activations = { int4: ["nothing.weight"] };
  });
  t.throws(() => loadModel(out), { code: "BAD_CONFIG", message: /usm_lite\.activations" names "nothing\.weight"/ });
  editJson(join(out, "config.json"), (json) => {
    (json["usm_lite"] as { activations: Record<string, string[]> }).activations = { int5: [] };
  });
  t.throws(() => loadModel(out), { code: "BAD_CONFIG", message: /activations/ });
});

test("misuse is a coded error", (t) => {
  const weight = randomTensor([2, 8], 1);
  const scales = groupScales(weight, "int4");
  t.throws(() => PackedMatrix.round(weight, "float32", scales), { code: "INVALID_ARGUMENT" });
  t.throws(() => PackedMatrix.round(weight, "int4+2:4", scales), { code: "INVALID_ARGUMENT", message: /needs a mask/ });
  const all = Tensor.from(new Uint8Array(16).fill(1), [2, 8], "uint8");
  t.throws(() => PackedMatrix.round(weight, "int4+2:4", { ...scales, mask: all }), {
    code: "INVALID_ARGUMENT",
    message: /keeps 4 of the inputs from 0 on/,
  });
  t.throws(() => PackedMatrix.round(weight, "uint4", scales), { code: "INVALID_ARGUMENT", message: /needs zero points/ });
  for (const rounding of ["noise", "stochastic"] as const) {
    const model = { parameters: () => new Map([["w", weight]]), linearWeights: () => ["w"] } as never;
    const specs = new Map([["w", parseWeightSpec("int4")]]);
    t.throws(() => new WeightQuantization(model, specs, { activations: "int8", rounding }), {
      code: "INVALID_ARGUMENT",
      message: /rounding gives no whole numbers for int8 activations/,
    });
    t.notThrows(() => new WeightQuantization(model, specs, { activations: "float32", rounding }));
  }
});
