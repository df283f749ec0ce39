/** Adapters of many speakers on the GPU. */
import { assertClose } from "./gpu.js";
import { join } from "node:path";
import test from "ava";
import {
  AdapterBase,
  AdapterStore,
  deviceAddLowRank,
  DeviceTensor,
  gpuMemoryStatistics,
  loadModel,
  Recognizer,
  SequenceOffsets,
  Tensor,
  tidy,
  Transcriber,
  UsmLiteError,
  writeAdapter,
  type Adapter,
} from "../lib/index.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { addLowRank } from "../lib/ops/low_rank.js";
import { randomAdapter, packedTiny } from "./adapters.js";
import { randomTensor, randomValues } from "./gradient.js";
import { temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("device-adapters");
test.after.always(folder.clean);

interface Factors {
  readonly host: { down: Tensor; up: Tensor };
  readonly device: { down: DeviceTensor; up: DeviceTensor };
}

function factorsOf(rank: number, input: number, out: number, seed: number): Factors {
  const [down, up] = [randomTensor([rank, input], seed), randomTensor([rank, out], seed + 1)];
  return { host: { down, up }, device: { down: DeviceTensor.from(down, "float32"), up: DeviceTensor.from(up, "float32") } };
}

/** What the CPU and the GPU make of the same rounded rows. */
function added(
  type: "bfloat16" | "float16",
  [input, out]: readonly [number, number],
  lengths: readonly number[],
  factors: readonly (Factors | undefined)[],
  options: { scale?: number; activation?: "none" | "silu" | "relu" } = {},
): { cpu: Float32Array; gpu: Float32Array } {
  return tidy(() => {
    const runs = new SequenceOffsets(lengths);
    const [x, y] = [
      DeviceTensor.from(randomTensor([runs.frames, input], 1), type),
      DeviceTensor.from(randomTensor([runs.frames, out], 2), type),
    ];
    const [hostX, hostY] = [x.toTensor(), y.toTensor()];
    deviceAddLowRank(
      y,
      x,
      runs,
      factors.map((one) => one?.device),
      options,
    );
    addLowRank(
      hostY,
      hostX,
      runs,
      factors.map((one) => one?.host),
      options,
    );
    return { cpu: hostY.toArray(), gpu: y.toTensor().toArray() };
  });
}

test("segments get the products of their own factors, as on the CPU", (t) => {
  for (const [type, tolerance] of [
    ["bfloat16", 2 ** -8],
    ["float16", 2 ** -11],
  ] as const) {
    for (const [input, out] of [
      [8, 8],
      [33, 21],
      [200, 515],
    ] as const) {
      const [small, odd, large] = [1, 5, 16].map((rank) => factorsOf(rank, input, out, rank)) as [Factors, Factors, Factors];
      for (const activation of ["none", "silu", "relu"] as const) {
        const { cpu, gpu } = added(type, [input, out], [3, 0, 17, 1, 40, 16], [large, small, undefined, small, odd, large], {
          scale: 0.5,
          activation,
        });
        assertClose(t, gpu, cpu, tolerance, `${type} ${input} to ${out}, ${activation}`);
      }
    }
  }
  const { cpu, gpu } = added("bfloat16", [16, 24], [19], [factorsOf(256, 16, 24, 3)]);
  assertClose(t, gpu, cpu, 2 ** -8, "rank 256");
});

test("more segments than a launch takes, and no row depends on another", (t) => {
  const factors = Array.from({ length: 130 }, (_, index) => (index % 9 === 4 ? undefined : factorsOf(1 + (index % 3), 16, 10, index)));
  const lengths = factors.map((_, index) => index % 4);
  const together = added("bfloat16", [16, 10], lengths, factors);
  assertClose(t, together.gpu, together.cpu, 2 ** -8, "130 segments");
  const alone = added(
    "bfloat16",
    [16, 10],
    lengths,
    factors.map((one, index) => (index === 7 ? one : undefined)),
  ).gpu;
  const begin = new SequenceOffsets(lengths).begin(7) * 10;
  t.deepEqual(alone.subarray(begin, begin + 30), together.gpu.subarray(begin, begin + 30));
});

test("misuse is a coded error", (t) => {
  const bad = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const { device } = factorsOf(2, 8, 8, 1);
  const matrix = (rows: number, columns: number, type: "bfloat16" | "float16" | "float32" = "bfloat16"): DeviceTensor =>
    DeviceTensor.zeros([rows, columns], type);
  const runs = new SequenceOffsets([3, 2]);
  const add = (y: DeviceTensor, x: DeviceTensor, factors: readonly (Factors["device"] | undefined)[], offsets = runs): void =>
    deviceAddLowRank(y, x, offsets, factors);
  t.notThrows(() => add(matrix(5, 8), matrix(5, 8), [device, undefined]));
  t.throws(() => add(matrix(5, 8), matrix(4, 8), [device, undefined]), bad);
  t.throws(() => add(matrix(5, 8), matrix(5, 8, "float16"), [device, undefined]), bad);
  t.throws(() => add(matrix(5, 8, "float32"), matrix(5, 8, "float32"), [device, undefined]), bad);
  t.throws(() => add(matrix(6, 8), matrix(6, 8), [device, undefined]), bad);
  t.throws(() => add(matrix(5, 8), matrix(5, 8), [device]), { ...bad, message: /for each of 2 runs/ });
  t.throws(() => add(matrix(5, 8), matrix(5, 16), [device, undefined]), { ...bad, message: /float32 \(rank, 16\)/ });
  t.throws(() => add(matrix(5, 9), matrix(5, 8), [device, undefined]), { ...bad, message: /float32 \(rank, 9\)/ });
  t.throws(() => add(matrix(5, 8), matrix(5, 8), [{ ...device, down: matrix(2, 8) }, undefined]), { ...bad, message: /bfloat16 \(2, 8\)/ });
  t.throws(() => add(matrix(5, 8), matrix(5, 8), [{ ...device, up: matrix(3, 8, "float32") }, undefined]), {
    ...bad,
    message: /ranks 2 and 3/,
  });
  t.throws(() => add(matrix(5, 8), matrix(5, 8), [{ down: matrix(257, 8, "float32"), up: matrix(257, 8, "float32") }, undefined]), {
    ...bad,
    message: /1 to 256/,
  });
});

const float = writeTinyModel(join(folder.path, "float"), { languageModel: false });

const lengths = new SequenceOffsets([33, 21, 26]);

/** Logits of each of three sequences, with an adapter of its own or none. */
function logits(model: string, device: "cpu" | "cuda", adaptersOf: (base: AdapterBase) => (Adapter | undefined)[]): Float32Array[] {
  return tidy(() => {
    const loaded = loadModel(model, { device, weights: device === "cpu" ? "float32" : "packed" });
    const network = loaded.network as CtcNetwork;
    const adapters = adaptersOf(new AdapterBase(loaded));
    const features = Tensor.from(randomValues(lengths.frames * 128, 1), [lengths.frames, 128]);
    const hidden = new SequenceOffsets(lengths.lengths.map((frames) => network.hiddenFrames(frames)));
    const scope = { kind: "sequences" as const, offsets: hidden, adapters: adapters.map((one) => one?.factors) };
    const result = withAdapters(scope, () =>
      network.forward(device === "cuda" ? DeviceTensor.from(features) : features, lengths).logits.toArray(),
    );
    for (const adapter of adapters) adapter?.dispose();
    const classes = result.length / hidden.frames;
    return hidden.lengths.map((frames, index) => result.slice(hidden.begin(index) * classes, (hidden.begin(index) + frames) * classes));
  });
}

test.serial("an encoder hears each sequence with its own adapter, as the CPU does", async (t) => {
  const packed = await packedTiny(float, join(folder.path, "packed"));
  for (const model of [float, packed]) {
    const plain = logits(model, "cuda", () => [undefined, undefined, undefined]);
    const adapters = (base: AdapterBase): (Adapter | undefined)[] => [
      randomAdapter(base, 3, 1),
      undefined,
      randomAdapter(base, 5, 2, "self_attn"),
    ];
    const [cpu, gpu] = [logits(model, "cpu", adapters), logits(model, "cuda", adapters)];
    for (const [index, expected] of cpu.entries())
      assertClose(t, gpu[index] as Float32Array, expected, 2e-2, `${model}, sequence ${index}`);
    t.notDeepEqual(gpu[0], plain[0]);
    t.deepEqual(gpu[1], plain[1], "who has no adapter gets, to the bit, what he would alone");
  }
});

test.serial("adapters take memory of the GPU while they are resident, and give it back", (t) => {
  const model = loadModel(float, { device: "cuda" });
  const base = new AdapterBase(model);
  const recognizer = new Recognizer(model);
  const store = join(folder.path, "store");
  for (const speaker of ["a", "b", "c"]) {
    using adapter = randomAdapter(base, 2, speaker.charCodeAt(0));
    writeAdapter(join(store, speaker), adapter, base, { dropout: 0, training: {} });
  }
  const samples = tones(0.5, 1);
  recognizer.transcribe(samples);
  const before = gpuMemoryStatistics().bytesInUse;
  const adapters = new AdapterStore(store, base, 2);
  const hear = (speaker: string): number => {
    const lease = adapters.lease(speaker);
    recognizer.transcribeBatch([samples], undefined, lease.adapter);
    lease.release();
    return gpuMemoryStatistics().bytesInUse - before;
  };
  const one = hear("a");
  t.true(one > 0);
  t.is(hear("a"), one);
  const two = hear("b");
  t.true(two > one);
  t.is(hear("c"), two, "the least recently used one went");
  t.is(hear("a"), two);
  adapters.dispose();
  t.is(gpuMemoryStatistics().bytesInUse, before);
  model.network.dispose();
});

test.serial("speakers are transcribed on the GPU as on the CPU, and auto means the GPU for them too", async (t) => {
  const store = join(folder.path, "store");
  t.is(loadModel(float, { device: "auto" }).device, "cuda");
  const audio = tones(0.5, 4); // no two tokens are as likely to within bfloat16
  const texts = async (device: "auto" | "cpu" | "cuda"): Promise<string[]> => {
    await using transcriber = await Transcriber.load({ model: float, device, adapters: store });
    const heard = ["a", undefined, "b", "a"].map((speaker) => transcriber.transcribe(audio, speaker === undefined ? {} : { speaker }));
    return (await Promise.all(heard)).map(({ text }) => text);
  };
  const [cpu, gpu] = [await texts("cpu"), await texts("cuda")];
  t.true(new Set(cpu).size > 1);
  t.deepEqual(gpu, cpu);
  const one = join(store, "a");
  const alone = (device: "cpu" | "cuda"): string => new Recognizer(loadModel(float, { device }), { adapter: one }).transcribe(audio).text;
  t.is(alone("cuda"), alone("cpu"));
});
