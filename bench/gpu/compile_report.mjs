/**
 * `npm run build:cuda`: compiles every kernel for the GPUs named in `architectures` and prints, for each kernel, registers,
 * spilled bytes and which tensor-core and copy instructions it holds. Needs nvcc, not a GPU. Fails when a kernel spills.
 * usage: npm run build:cuda -- [--arch sm_90a] [FILE.cu...]
 */
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const architectures = ["sm_80", "sm_89", "sm_90a"];
const withoutKernels = ["gpu_properties.cu", "runtime.cu", "launch.cu", "tensor_map.cu"];

/** What to look for in a kernel's PTX, and what to call it. */
const instructions = [
  ["mma", /\bmma\.sync\./g],
  ["mma.sp", /\bmma\.sp(::ordered_metadata)?\.sync\./g],
  ["wgmma", /\bwgmma\.mma_async\.sync\./g],
  ["wgmma.sp", /\bwgmma\.mma_async\.sp\./g],
  ["cp.async", /\bcp\.async\.c[ag]\./g],
  ["bulk copy", /\bcp\.async\.bulk\.shared/g],
  ["tensor copy", /\bcp\.async\.bulk\.tensor/g],
];

const { values, positionals } = parseArgs({ options: { arch: { type: "string", multiple: true } }, allowPositionals: true });
const folder = join(root, "native", "cuda");
const files = (positionals.length ? positionals.map((path) => basename(path)) : readdirSync(folder))
  .filter((name) => name.endsWith(".cu") && !withoutKernels.includes(name))
  .sort();
/** Files of sm89 have no code for older GPUs. */
const has = (architecture, file) => !(file.includes("_sm89") && /^sm_8[0-8]$/.test(architecture));
const jobs = (values.arch ?? architectures).flatMap((architecture) =>
  files.filter((file) => has(architecture, file)).map((file) => ({ architecture, file })),
);

/** Kernels of one file for one architecture: { name, registers, spilled, counts }. */
async function compile({ architecture, file }) {
  const kept = join(root, "build", "cuda-report", architecture, basename(file, ".cu"));
  rmSync(kept, { recursive: true, force: true });
  mkdirSync(kept, { recursive: true });
  const ptx = join(kept, "kernels.ptx");
  const common = ["-std=c++20", "-O3", `-I${join(root, "native")}`];
  const begin = performance.now();
  const virtual = `--gpu-architecture=${architecture.replace("sm", "compute")}`;
  await run("nvcc", [...common, "--ptx", virtual, join(folder, file), "-o", ptx], { maxBuffer: 1 << 28 });
  const { stderr } = await run("ptxas", [`--gpu-name=${architecture}`, "--verbose", "-O3", ptx, "-o", join(kept, "kernels.cubin")], {
    maxBuffer: 1 << 28,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/local/cuda/bin` },
  });
  return { seconds: (performance.now() - begin) / 1000, kernels: await parse(stderr, readFileSync(ptx, "utf8")) };
}

async function parse(report, ptx) {
  // Up to the next one: lines of float16's instructions begin with braces, as the end of a kernel does.
  const bodies = new Map([...ptx.matchAll(/\.entry (\w+)\(([\s\S]*?)(?=\.entry |$)/g)].map(([, name, body]) => [name, body]));
  const kernels = [...report.matchAll(/Compiling entry function '(\w+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads[\s\S]*?Used (\d+) registers/g)];
  const names = await demangle(kernels.map(([, name]) => name));
  return kernels.map(([, name, stack, stores, loads, registers], index) => ({
    name: names[index],
    registers: Number(registers),
    spilled: Number(stores) + Number(loads),
    stack: Number(stack),
    counts: instructions.map(([label, pattern]) => [label, (bodies.get(name) ?? "").match(pattern)?.length ?? 0]).filter(([, count]) => count > 0),
  }));
}

async function demangle(names) {
  if (names.length === 0) return [];
  const child = run("c++filt", names);
  return (await child).stdout
    .trim()
    .split("\n")
    .map((name) => name.replace(/^void /, "").replaceAll("usmlite::cuda::", "").replaceAll("(anonymous namespace)::", ""))
    .map((name) => name.replace(/>\(.*$/, ">").replace(/^(\w+)\(.*$/, "$1"));
}

let spilling = 0;
let next = 0;
async function worker() {
  while (next < jobs.length) {
    const job = jobs[next++];
    const { seconds, kernels } = await compile(job);
    console.log(`${job.file} for ${job.architecture}: ${kernels.length} kernels, ${seconds.toFixed(0)} s`);
    for (const { name, registers, spilled, stack, counts } of kernels) {
      if (spilled) spilling++;
      const marks = [spilled ? `SPILLS ${spilled} bytes` : "", stack ? `stack ${stack} bytes` : ""].filter(Boolean).join(", ");
      const held = counts.map(([label, count]) => `${label} x${count}`).join(", ");
      console.log(`  ${String(registers).padStart(3)} registers  ${name}${held ? `  [${held}]` : ""}${marks ? `  ${marks}` : ""}`);
    }
  }
}

try {
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
} catch (error) {
  console.error(error.code === "ENOENT" ? `${error.path} was not found; install CUDA 13 and put its bin folder in PATH` : (error.stderr ?? error.message));
  process.exit(1);
}
if (spilling) console.error(`${spilling} kernels spill registers to memory; they must not`);
process.exit(spilling ? 1 : 0);
