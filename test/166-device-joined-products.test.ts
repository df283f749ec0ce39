/** Query, key and value products in one: weights that lie one below the other on the GPU. */
import { assertClose } from "./gpu.js";
import { join } from "node:path";
import test from "ava";
import {
  deviceLinear,
  DeviceTensor,
  DeviceWeight,
  gpuMemoryStatistics,
  loadModel,
  packWeight,
  Recording,
  SequenceOffsets,
  Tensor,
  tidy,
  UsmLiteError,
  type DeviceWeightOptions,
} from "../lib/index.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { withAdapters, type LayerFactors } from "../lib/nn/adapter_scope.js";
import { JoinedLinears } from "../lib/nn/joined_linears.js";
import { Linear } from "../lib/nn/linear.js";
import { RelativePositions } from "../lib/nn/relative_positions.js";
import { WeightRegistry } from "../lib/nn/weight_registry.js";
import { WeightScope, type WeightSource } from "../lib/nn/weight_source.js";
import { keep } from "../lib/tensor/scope.js";
import { packedTiny } from "./adapters.js";
import { randomTensor } from "./gradient.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

const memory = (): number => gpuMemoryStatistics().bytesInUse;
const kinds: readonly (readonly [spec: string, options: DeviceWeightOptions])[] = [
  ["float32", {}],
  ["float32+2:4", { arithmetic: "float16" }],
  ["int4+2:4", {}],
  ["int4/g64", {}],
  ["int8", { arithmetic: "int8" }],
  ["int4", { arithmetic: "int8", activations: "int4" }],
];

test.serial("stacked weights multiply as each of them does, and take no more memory", (t) => {
  for (const [spec, options] of kinds) {
    const type = options.arithmetic === "float16" ? "float16" : "bfloat16";
    const before = memory();
    const rows = [64, 128, 64];
    const weights = rows.map((count, seed) => tidy(() => DeviceWeight.from(packWeight(randomTensor([count, 136], seed), spec), options)));
    const [apart, bytes] = [weights.map((weight) => weight.read()), memory() - before];
    const products = (x: DeviceTensor): Float32Array[] =>
      weights.map((weight) => deviceLinear(x, weight, { batchInvariant: true }).toArray());
    tidy(() => {
      for (const tokens of [3, 20]) {
        const x = DeviceTensor.from(randomTensor([tokens, 136], 9), type);
        const expected = products(x);
        using whole = DeviceWeight.stack(weights);
        t.deepEqual([whole.rows, whole.columns], [256, 136]);
        t.true(whole.bytes <= weights.reduce((sum, weight) => sum + weight.bytes, 0));
        const together = deviceLinear(x, whole, { batchInvariant: true }).toArray();
        let begin = 0;
        rows.forEach((count, index) => {
          const part = Float32Array.from(
            { length: tokens * count },
            (_, i) => together[Math.floor(i / count) * 256 + begin + (i % count)] as number,
          );
          assertClose(
            t,
            part,
            expected[index] as Float32Array,
            type === "float16" ? 2 ** -10 : 2 ** -7,
            `${spec}, ${tokens} tokens, weight ${index}`,
          );
          begin += count;
        });
        t.deepEqual(products(x), expected, "the parts are what they were");
      }
    });
    t.deepEqual(
      weights.map((weight) => weight.read()),
      apart,
    );
    t.true(memory() - before <= bytes, `${spec}: ${memory() - before} bytes, not ${bytes}`);

    if (spec === "int4") {
      using copy = (weights[0] as DeviceWeight).repeat(1);
      t.true(memory() >= before + bytes + copy.bytes, "a copy has memory of its own");
    }
    // Another worker finds them where they are.
    const shared = weights.map((weight) => DeviceWeight.fromShared(weight.share()));
    DeviceWeight.stack(shared).dispose();
    t.true(memory() - before <= bytes);
    for (const weight of weights) weight.dispose();
    t.true(memory() > before);
    for (const weight of shared) weight.dispose();
    t.is(memory(), before, "all of it is given back");
  }
});

test.serial("weights that are not alike are not stacked", (t) => {
  const weight = (rows: number, columns: number, spec: string, options: DeviceWeightOptions = {}): DeviceWeight =>
    DeviceWeight.from(packWeight(randomTensor([rows, columns], 1), spec), options);
  const first = weight(64, 64, "int4");
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  for (const other of [
    weight(32, 64, "int4"),
    weight(64, 128, "int4"),
    weight(64, 64, "int3"),
    weight(64, 64, "int4", { arithmetic: "int8" }),
    weight(64, 64, "int4", { glu: true }),
  ]) {
    t.false(DeviceWeight.canStack([first, other]));
    t.throws(() => DeviceWeight.stack([first, other]), { ...invalid, message: /one spec, arithmetic and number of columns/ });
  }
  t.throws(() => DeviceWeight.stack([]), invalid);
  using filled = DeviceWeight.ofIntegers("int4", 64, 64);
  t.throws(() => DeviceWeight.stack([filled, filled]), { ...invalid, message: /of one kind/ });
  DeviceWeight.stack([first]).dispose();
  t.false(first.released);
  first.dispose();
  t.throws(() => DeviceWeight.stack([first]), { code: "TENSOR_RELEASED" });
});

/** Gives weights on the GPU, or float weights where there is no spec. */
const source = (spec: (name: string) => readonly [string, DeviceWeightOptions] | undefined): WeightSource => ({
  tensor: (name, shape) => keep(randomTensor(shape, name.length)),
  matrix(name, shape) {
    const kind = spec(name);
    return tidy(() =>
      kind ? DeviceWeight.from(packWeight(randomTensor(shape, name.length), kind[0]), kind[1]) : keep(randomTensor(shape, name.length)),
    );
  },
  has: () => false,
});

/** Layers called "q", "key" and "value", from 64 to 64, 64 and 128; the second without bias where that is "some". */
function layersOf(weights: WeightSource, bias: "all" | "some" | "none"): [Linear, Linear, Linear] {
  const scope = new WeightScope(weights);
  const layer = (name: string, rows: number): Linear =>
    new Linear(scope, name, [rows, 64], { bias: bias === "all" || (bias === "some" && name !== "key") });
  return [layer("q", 64), layer("key", 64), layer("value", 128)];
}

test.serial("layers joined give what each gives, with fewer kernels, and give their memory back", (t) => {
  for (const [kind, operations] of [
    [undefined, [1, 3]],
    [
      ["int4+2:4", {}],
      [1, 3],
    ],
    [
      ["int8", { arithmetic: "int8" }],
      [2, 6],
    ],
  ] as const) {
    for (const bias of ["all", "some", "none"] as const) {
      const before = memory();
      const registry = new WeightRegistry(source(() => kind));
      const layers = layersOf(registry, bias);
      const joined = new JoinedLinears(layers);
      tidy(() => {
        const x = DeviceTensor.from(randomTensor([7, 64], 5));
        const apart = (): Tensor[] => layers.map((layer) => layer.forward(x, {}));
        const together = joined.forward(x, {});
        apart().forEach((expected, index) =>
          assertClose(t, (together[index] as Tensor).toArray(), expected.toArray(), 2 ** -7, `${kind?.[0]}, layer ${index}`),
        );
        const counts = [() => joined.forward(x, {}), apart].map((work) => {
          using recording = new Recording(() => tidy(() => void work()));
          return recording.operations;
        });
        t.deepEqual(counts, [...operations]);
        // Adapters are added to the columns of their layer.
        const factors: LayerFactors = new Map([["key.weight", { down: randomTensor([2, 64], 6), up: randomTensor([2, 64], 7) }]]);
        const adapted = (work: () => readonly Tensor[]): Float32Array[] =>
          withAdapters({ kind: "sequences", offsets: new SequenceOffsets([3, 4]), adapters: [factors, undefined] }, () =>
            work().map((y) => y.toArray()),
          );
        const withOwn = adapted(() => joined.forward(x, {}));
        adapted(apart).forEach((expected, index) =>
          assertClose(t, withOwn[index] as Float32Array, expected, 2 ** -7, `${kind?.[0]}, adapted layer ${index}`),
        );
        t.notDeepEqual(withOwn[1]?.slice(0, 3 * 64), together[1].toArray().slice(0, 3 * 64));
        t.deepEqual(
          [withOwn[0], withOwn[1]?.slice(3 * 64), withOwn[2]],
          [together[0].toArray(), together[1].toArray().slice(3 * 64), together[2].toArray()],
          "others keep their bits",
        );
        for (const { down, up } of factors.values()) [down, up].forEach((factor) => factor.dispose());
      });
      registry.dispose();
      t.true(memory() <= before + 2 * 4 * 2 * 64 * 2, `${kind?.[0]}, ${bias}: ${memory() - before} bytes are left`);
    }
  }
});

test.serial("what was stacked once is given again until a weight moves or goes", (t) => {
  const before = memory();
  const weights = [1, 2, 3].map((seed) => tidy(() => DeviceWeight.from(packWeight(randomTensor([64, 64], seed), "int4"))));
  const [first, second, third] = weights as [DeviceWeight, DeviceWeight, DeviceWeight];
  const whole = DeviceWeight.stackOnce(weights);
  t.is(DeviceWeight.stackOnce(weights), whole);
  const pair = DeviceWeight.stackOnce([second, third]);
  t.is(DeviceWeight.stackOnce([second, third]), pair, "where they lie already");
  const turned = DeviceWeight.stackOnce([third, second]);
  t.false(turned.released);
  t.not(DeviceWeight.stackOnce(weights), whole, "two of them moved");
  t.true(whole.released);
  for (const weight of weights) weight.dispose();
  t.true(turned.released);
  t.is(memory(), before);
  t.throws(() => DeviceWeight.stackOnce([first, second]), { code: "TENSOR_RELEASED" });
  t.throws(() => DeviceWeight.stackOnce([]), { code: "INVALID_ARGUMENT" });
});

test.serial("layers of several kinds are multiplied one by one", (t) => {
  tidy(() => {
    for (const spec of [
      (name: string) => (name.startsWith("key") ? undefined : (["int4", {}] as const)),
      (name: string) => [name.startsWith("key") ? "int8" : "int4", {}] as const,
    ]) {
      const layers = layersOf(source(spec), "all");
      const x = DeviceTensor.from(randomTensor([5, 64], 5));
      t.deepEqual(
        new JoinedLinears(layers).forward(x, {}).map((y) => y.toArray()),
        layers.map((layer) => layer.forward(x, {}).toArray()),
      );
      for (const { weight } of layers) weight.dispose();
    }
  });
});

test.serial("the keys of positions are made for all blocks at once, where that is one product", (t) => {
  tidy(() => {
    const layersOfBlocks = (other: string): Linear[] => {
      const scope = new WeightScope(source((name) => [name.includes("1") ? other : "int4", {}]));
      return [0, 1].map((block) => new Linear(scope, `${block}.position`, [64, 64], { bias: false }));
    };
    const layers = layersOfBlocks("int4");
    const positions = new RelativePositions(64, layers);
    const table = positions.withKeys(positions.forDistances(5, 5, "cuda"), {});
    t.is(table.keys?.size, 2);
    for (const layer of layers)
      assertClose(t, (table.keys?.get(layer) as Tensor).toArray(), layer.forward(table.embeddings, {}).toArray(), 2 ** -7, layer.name);
    using recording = new Recording(() => tidy(() => void positions.withKeys(table, {})));
    t.is(recording.operations, 1);
    t.is(positions.withKeys(positions.forDistances(600, 600, "cuda"), {}).keys, undefined, "many distances keep a product for each block");
    t.is(positions.withKeys(positions.forDistances(5, 5), {}).keys, undefined, "on the CPU as well");
    positions.dispose();
    const unlike = layersOfBlocks("int8");
    const apart = new RelativePositions(64, unlike);
    t.is(apart.withKeys(apart.forDistances(5, 5, "cuda"), {}).keys, undefined);
    apart.dispose();
    for (const { weight } of [...layers, ...unlike]) weight.dispose();
  });
});

test.serial("workers share joined weights, which lie on the GPU once", async (t) => {
  const folder = temporaryFolder("joined");
  t.teardown(folder.clean);
  const model = await packedTiny(writeTinyModel(join(folder.path, "float"), { hidden: 64 }), join(folder.path, "packed"));
  const first = loadModel(model, { device: "cuda" });
  const loaded = memory();
  const second = loadModel(model, { device: "cuda", sharedMatrices: first.shareMatrices() });
  t.is(memory(), loaded);
  tidy(() => {
    const offsets = new SequenceOffsets([30]);
    const features = randomTensor([30, 128], 1);
    const [a, b] = [first, second].map(({ network }) =>
      (network as CtcNetwork).forward(DeviceTensor.from(features), offsets).logits.toArray(),
    ) as [Float32Array, Float32Array];
    t.deepEqual(a, b);
    assertClose(
      t,
      a,
      (loadModel(model, { weights: "float32" }).network as CtcNetwork).forward(features, offsets).logits.toArray(),
      2e-2,
      "logits",
    );
    first.network.dispose();
    t.deepEqual((second.network as CtcNetwork).forward(DeviceTensor.from(features), offsets).logits.toArray(), a);
    second.network.dispose();
  });
});
