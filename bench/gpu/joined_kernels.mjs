/**
 * Whether kernel files that are compiled as one (`joined_kernels` in CMakeLists.txt) become the same instructions as each by itself: a
 * name of one file can silently take the place of a name that a header declares for the next. Compares their PTX but for the
 * order of instructions, moves between registers and whether neighbours are loaded as one, in which the compiler is not always of one
 * mind. Needs a build folder that was configured with nvcc, and nvcc, not a GPU. Fails when a kernel differs.
 * usage: node bench/gpu/joined_kernels.mjs [--arch sm_90a] [FILE_and_others.cu...]
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const joinedFolder = join(root, "build", "joined_kernels", "kernel_sources");
const written = join(root, "build", "joined-kernels-ptx");

const { values, positionals } = parseArgs({ options: { arch: { type: "string", multiple: true } }, allowPositionals: true });

/** What a kernel computes with which numbers: its instructions but moves and loads, without registers, sorted. */
const instructions = (body) =>
  body
    .split("\n")
    .map((line) => line.trim().replace(/%[a-z]+\d+/g, "%"))
    .filter((line) => line !== "" && !/^(@%\s+)?(mov|ld)\.|^\.reg|^BLOCK_/.test(line))
    .sort()
    .join("\n");

/** Kernels of a file, from their names to their instructions; what a compiler numbers or names by file is left out of both. */
async function kernels(path, architecture) {
  const ptx = join(written, `${basename(path, ".cu")}-${architecture}.ptx`);
  const virtual = `--gpu-architecture=${architecture.replace("sm", "compute")}`;
  await run("nvcc", ["-std=c++20", "-DNDEBUG", `-I${join(root, "native")}`, "--ptx", virtual, path, "-o", ptx], { maxBuffer: 1 << 28 });
  const text = readFileSync(ptx, "utf8")
    .replace(/\d+_GLOBAL__N__[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}/g, "UNNAMED")
    .replace(/_INTERNAL_[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}(_\d+)?/g, "INTERNAL")
    .replace(/\$L__BB\d+_/g, "BLOCK_")
    .replace(/__local_depot\d+/g, "DEPOT")
    .replace(/^\s*\/\/.*$/gm, "");
  const found = new Map();
  // Up to the next one: lines within a kernel begin with braces too.
  for (const [, name, body] of text.matchAll(/\.entry (\w+)([^]*?)(?=(?:\.visible )?\.entry |$)/g)) {
    found.set(name, [...(found.get(name) ?? []), instructions(body)].sort());
  }
  return found;
}

/** Of several files together. */
async function kernelsOfAll(paths, architecture) {
  const all = new Map();
  for (const path of paths) {
    for (const [name, bodies] of await kernels(path, architecture)) all.set(name, [...(all.get(name) ?? []), ...bodies].sort());
  }
  return all;
}

/** Names of kernels that are not the same; prints a line. */
async function compare({ file, architecture }) {
  const joined = join(joinedFolder, file);
  const parts = [...readFileSync(joined, "utf8").matchAll(/"(.+)"/g)].map(([, path]) => join(root, "native", path));
  const together = await kernels(joined, architecture);
  const alone = await kernelsOfAll(parts, architecture);
  const names = [...new Set([...together.keys(), ...alone.keys()])];
  const different = names.filter((name) => String(together.get(name)) !== String(alone.get(name)));
  const verdict = different.length ? `different: ${different.join(" ")}` : "the same";
  console.log(`${file} for ${architecture}: ${parts.length} files, ${names.length} kernels, ${verdict}`);
  return different;
}

if (!existsSync(joinedFolder)) {
  console.error(`${joinedFolder} was not found: configure a build with nvcc first (npm ci)`);
  process.exit(1);
}
const known = readdirSync(joinedFolder);
const files = positionals.length ? positionals.map((path) => basename(path)) : known;
for (const unknown of files.filter((file) => !known.includes(file))) {
  console.error(`${unknown} is no joined file; choose from ${known.join(", ")}`);
  process.exit(1);
}
/** Kernels of files that are named after an architecture are launched on it alone. */
const has = (architecture, file) => !/_sm[89]0/.test(file) || file.includes(architecture.slice(0, 5).replace("_", ""));
const jobs = (values.arch ?? ["sm_80", "sm_90a"]).flatMap((architecture) =>
  files.filter((file) => has(architecture, file)).map((file) => ({ architecture, file })),
);
mkdirSync(written, { recursive: true });
let different = 0;
let next = 0;
async function worker() {
  while (next < jobs.length) different += (await compare(jobs[next++])).length;
}
try {
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
} catch (error) {
  console.error(error.code === "ENOENT" ? `${error.path} was not found; install CUDA 13 and put its bin folder in PATH` : (error.stderr ?? error.message));
  process.exit(1);
}
if (different) console.error(`${different} kernels change when their files are joined: give the names that they share other names`);
process.exit(different ? 1 : 0);
