import { realGpu } from "./gpu.js";
import { execFile } from "node:child_process";
import test from "ava";

const library = new URL("../lib/operations.js", import.meta.url).href;

/** Runs `body` (statements that may use the library as `lib` and must assign `result`) in a process of its own. */
function inProcess(body: string, environment: Record<string, string>): Promise<unknown> {
  const source = `
    import * as lib from ${JSON.stringify(library)};
    const codeOf = (action) => { try { action(); return "none"; } catch (error) { return error.code + ": " + error.message; } };
    let result;
    ${body}
    console.log(JSON.stringify(result));`;
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ["--input-type=module", "--eval", source],
      { env: { ...process.env, ...environment } },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`the process ended with ${error.code}: ${stderr}`));
        else resolve(JSON.parse(stdout));
      },
    );
  });
}

const everyEntry = `
  const weight = lib.packWeight(lib.Tensor.from(new Float32Array(64 * 64).fill(1), [64, 64]), "int4");
  result = {
    codes: [
      () => lib.gpuInformation(), () => lib.DeviceTensor.zeros([4]), () => lib.DeviceTensor.from(lib.Tensor.zeros([4])),
      () => lib.DeviceWeight.from(weight), () => new lib.DeviceStream(), () => new lib.DeviceEvent(), () => new lib.PinnedBuffer(4), () => lib.synchronizeGpu(), () => lib.gpuFreeMemory(),
    ].map(codeOf),
    hasGpu: lib.hasGpu(),
    cpu: lib.packedLinear(lib.Tensor.from(new Float32Array(64).fill(1), [1, 64]), lib.PackedMatrix.from(weight)).toArray()[0],
  };`;

async function missing(
  t: { deepEqual(a: unknown, b: unknown): unknown; regex(a: string, b: RegExp): unknown },
  environment: Record<string, string>,
  expected: RegExp,
): Promise<void> {
  const { codes, hasGpu, cpu } = (await inProcess(everyEntry, environment)) as { codes: string[]; hasGpu: boolean; cpu: number };
  for (const code of codes) t.regex(code, expected);
  t.deepEqual([hasGpu, Math.round(cpu)], [false, 64]); // the CPU goes on
}

const onEmulator = realGpu ? test.skip : test;

onEmulator("no GPU, an old driver and an old GPU are told from every entry", async (t) => {
  await missing(t, { USMLITE_EMULATED_GPU: "none" }, /^NO_GPU: /);
  await missing(t, { USMLITE_EMULATED_GPU: "old-driver" }, /^DRIVER_TOO_OLD: /);
  await missing(t, { USMLITE_EMULATED_GPU: "old" }, /^NO_GPU: .*compute capability 7\.5/);
  await missing(t, { USMLITE_EMULATED_CAPABILITY: "7.5" }, /^INVALID_ARGUMENT: .*it must be 8\.0, 8\.6,/);
});

test("a machine without a GPU says so, or what the build lacks", async (t) => {
  await missing(
    t,
    { USMLITE_EMULATE_GPU: "", CUDA_VISIBLE_DEVICES: "-1" },
    /^NO_GPU: (no NVIDIA driver|the NVIDIA driver shows no GPU|this build has no GPU kernels)/,
  );
});

test("out of memory is an error, after which everything goes on and nothing is left behind", async (t) => {
  const result = (await inProcess(
    `
    const size = ${realGpu ? "[32768, 32768]" : "[1024, 512]"};
    const weight = lib.DeviceWeight.from(lib.packWeight(lib.Tensor.from(new Float32Array(64 * 64).fill(1), [64, 64]), "int4"));
    const multiply = () => lib.tidy(() => lib.deviceLinear(lib.DeviceTensor.from(lib.Tensor.from(new Float32Array(64).fill(1), [1, 64])), weight).toTensor().toArray()[0]);
    multiply();
    const before = lib.gpuMemoryStatistics().bytesInUse;
    const tensors = [];
    let code = "none";
    while (code === "none" && tensors.length < 1000) code = codeOf(() => tensors.push(lib.DeviceTensor.zeros(size)));
    const again = codeOf(() => lib.DeviceTensor.zeros(size));
    const tooLarge = codeOf(() => lib.DeviceWeight.from(lib.packWeight(lib.Tensor.zeros([${realGpu ? "64, 64" : "4096, 1024"}]), "int8")).dispose());
    const held = tensors.length;
    tensors.pop().dispose();
    const fits = codeOf(() => lib.DeviceTensor.zeros(size).dispose());
    const product = multiply();
    for (const tensor of tensors) tensor.dispose();
    lib.trimGpuMemory();
    result = { code, again, tooLarge, held, fits, product, left: lib.gpuMemoryStatistics().bytesInUse - before, cached: lib.gpuMemoryStatistics().bytesCached };`,
    { USMLITE_EMULATED_MEMORY: String(8 << 20) },
  )) as { code: string; again: string; tooLarge: string; held: number; fits: string; product: number; left: number; cached: number };
  t.regex(result.code, /^OUT_OF_MEMORY: the GPU has no \d+ MiB left/);
  t.regex(result.again, /^OUT_OF_MEMORY/);
  if (!realGpu) t.regex(result.tooLarge, /^OUT_OF_MEMORY/);
  t.true(result.held > 2);
  t.is(result.fits, "none");
  t.is(result.product, 64);
  t.deepEqual([result.left, result.cached], [0, 0]);
});

onEmulator("a GPU that fails is told by the call that waits, and by every later one", async (t) => {
  const result = (await inProcess(
    `
    const x = lib.Tensor.from(new Float32Array(64).fill(1), [1, 64]);
    const packed = lib.packWeight(lib.Tensor.from(new Float32Array(64 * 64).fill(1), [64, 64]), "int4");
    const weight = lib.DeviceWeight.from(packed); // one wait
    const tensor = lib.DeviceTensor.from(x);
    const first = tensor.toTensor().toArray()[0]; // another
    const product = lib.deviceLinear(tensor, weight); // does not wait
    result = {
      first,
      codes: [() => product.toTensor(), () => lib.synchronizeGpu(), () => tensor.toTensor()].map(codeOf),
      cpu: lib.packedLinear(x, lib.PackedMatrix.from(packed)).toArray()[0],
    };
    weight.dispose();
    tensor.dispose();
    product.dispose();`,
    { USMLITE_EMULATED_FAILURE: "2" },
  )) as { first: number; codes: string[]; cpu: number };
  t.is(result.first, 1);
  for (const code of result.codes) t.regex(code, /^GPU_FAILED: the GPU failed while/);
  t.is(Math.round(result.cpu), 64);
});
