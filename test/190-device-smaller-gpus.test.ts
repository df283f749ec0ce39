// GPUs whose thread blocks have 99 KiB of shared memory and that know none of Hopper's instructions: Ampere's 8.6 (A10, RTX 30), Ada's 8.9 (L4,
// L40S, RTX 40) and Blackwell's 12.0, here an Ada. Wide heads of attention have kernels of their own there.
import { assertClose, realGpu } from "./gpu.js";
process.env["USMLITE_EMULATED_CAPABILITY"] = "8.9"; // before the addon looks for its GPU
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";
import {
  attention,
  deviceAttention,
  DeviceSequences,
  DeviceWeight,
  gpuInformation,
  linear,
  packWeight,
  SequenceOffsets,
  unpackWeight,
} from "../lib/operations.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { floatTypes, operand, product, rounded } from "./device_products.js";
import { randomTensor } from "./gradient.js";
import { assertRelativeGradients } from "./relative_attention_gradients.js";

const emulated = realGpu ? test.skip : test;

type Rounded = ReturnType<typeof rounded>;

emulated("an emulated Ada has the memory of one, and none of the instructions of Hopper", async (t) => {
  t.is(gpuInformation().computeCapability, 8.9);
  const program = join(import.meta.dirname, "..", "..", "build", "Release", "gpu_instructions");
  const { stdout } = await promisify(execFile)(program).catch((error: unknown) => error as { stdout: string });
  const lines = stdout.trimEnd().split("\n").slice(0, -1); // the last counts them
  const failed = lines.filter((line) => !line.startsWith("OK "));
  t.true(failed.length > 20 && lines.length - failed.length > 20);
  for (const line of failed) t.regex(line, /is an instruction of sm_90a, and this GPU has compute capability 8\.9$|clusters are for/);
  t.deepEqual(
    lines.filter((line) => line.startsWith("OK wgmma")),
    [],
  );
});

emulated("e4m3 numbers are multiplied", (t) => {
  for (const spec of ["float32", "float32+2:4"]) {
    const packed = packWeight(randomTensor([72, 136], 1), spec);
    using weight = DeviceWeight.from(packed, { arithmetic: "float8" });
    for (const tokens of [3, 70]) {
      const x = randomTensor([tokens, 136], tokens);
      const expected = linear(operand(x, "float8"), unpackWeight(packed).weight).toArray();
      assertClose(t, product(x, weight, "float8"), expected, 2 ** -8 + 2 ** -4, `${spec}, ${tokens} tokens`);
    }
  }
});

emulated("attention with wide heads, with and without relative positions", (t) => {
  for (const [type, tolerance] of floatTypes) {
    for (const { lengths, headDim } of [
      { lengths: [33, 70], headDim: 128 },
      { lengths: [139, 3], headDim: 160 },
    ]) {
      const offsets = new SequenceOffsets(lengths);
      using sequences = new DeviceSequences(offsets);
      const make = (rows: number, seed: number): Rounded => rounded(randomTensor([rows, headDim], seed), type);
      const [q, k, v] = [1, 2, 3].map((seed) => make(offsets.frames, seed)) as [Rounded, Rounded, Rounded];
      const [p, u, w] = [make(2 * sequences.longest - 1, 4), ...[5, 6].map((seed) => rounded(randomTensor([headDim], seed), type))] as [
        Rounded,
        Rounded,
        Rounded,
      ];
      const plain = attention(q.host, k.host, v.host, offsets, { heads: 1 }).toArray();
      const withPositions = relativeAttention(q.host, k.host, v.host, { keys: p.host, origin: sequences.longest - 1 }, offsets, {
        heads: 1,
        contentBias: u.host,
        positionBias: w.host,
      }).toArray();
      const relative = { positions: p.device, contentBias: u.device, positionBias: w.device };
      for (const batchInvariant of [false, true]) {
        const what = `${type}, heads of ${headDim}, ${batchInvariant}`;
        const attend = (options: { relative?: typeof relative }): Float32Array =>
          deviceAttention(q.device, k.device, v.device, sequences, { heads: 1, batchInvariant, ...options }).toArray();
        assertClose(t, attend({}), plain, 3 * tolerance, what);
        assertClose(t, attend({ relative }), withPositions, 3 * tolerance, `${what}, relative`);
      }
    }
  }
});

emulated("gradients of attention with relative positions and wide heads", (t) => {
  for (const each of [
    { lengths: [7, 0, 67], heads: 1 },
    { lengths: [37], heads: 2 },
  ] as const) {
    assertRelativeGradients(t, { ...each, headDim: 128 });
  }
});
