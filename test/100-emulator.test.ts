/**
 * The emulated GPU itself: each device instruction against the layouts of the PTX ISA (the same program, built by nvcc,
 * checks the hardware), and wrong kernels, each of which must be reported as what it is. Programs are in test/native.
 */
import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { realGpu } from "./gpu.js";

const programs = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "build", "Release");

async function run(name: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(join(programs, name));
  return stdout.trimEnd().split("\n");
}

/** The emulator is not built where a real GPU is tested. */
const emulated = realGpu ? test.skip : test;

emulated("device instructions do what the PTX ISA says", async (t) => {
  const lines = await run("gpu_instructions");
  t.deepEqual(
    lines.filter((line) => !line.startsWith("OK ")),
    ["0 failed"],
  );
  t.true(lines.length > 80);
});

const race = (access: string, other: string): RegExp =>
  new RegExp(`: race: ${access} of byte \\d+ of shared memory and a ${other} have no barrier between them$`);
const stuck = (who: string): RegExp => new RegExp(`: nothing in this block can go on: .*${who}`);
const underWay = /: read of byte \d+ of shared memory, into which an asynchronous copy is under way$/;
const globalRace = (access: string, other: string): RegExp =>
  new RegExp(`: race: ${access} of byte \\d+ of a device buffer of 256 bytes and a ${other} have no barrier between them$`);
const raceOfBlocks = (access: string, other: string): RegExp =>
  new RegExp(`: race: ${access} of byte \\d+ of .* and a ${other} of an earlier block have no addition to a counter between them$`);
const misaligned = (thread: number, type: string, bytes: number): RegExp =>
  new RegExp(`thread ${thread}: misaligned address: '.*${type}'.* must begin at a multiple of ${bytes} bytes \\(`);

/** For each wrong kernel, what its message must say. */
const mistakes: Readonly<Record<string, RegExp>> = {
  "two write": race("write", "write by thread 0"),
  "read without barrier": /thread 0: read of byte 4 of shared memory, which nothing has been written to$/,
  "overwrite without barrier": race("write", "read by thread 63"),
  "warp barrier for block": /: read of byte 128 of shared memory, which nothing has been written to$/,
  "matrix load without barrier": race("ldmatrix", "write by thread \\d+"),
  "missing thread": stuck("threads 0 to 6 wait at named_barrier_sync; thread 7 ended; threads 8 to 63 wait at named_barrier_sync$"),
  "lane leaves": stuck("threads 0 to 2 wait at shuffle; thread 3 ended; threads 4 to 31 wait at shuffle; "),
  "lanes part": /thread 1: came to warp_sync while other threads of its warp wait at shuffle; all must take part in the same$/,
  "barriers of two sizes": /thread 32: waits at named barrier 2 for 32 threads where others wait for 64$/,
  "waits for later block": /thread 0: atomic_add was called a million times; blocks run one after another here, /,
  "beyond shared": /thread 0: read of 4 bytes at offset 4096 of shared memory, which has 4096 bytes$/,
  "before shared": /thread 0: write of 4 bytes at offset -32 of shared memory, which has 4096 bytes$/,
  "matrix load beyond shared": /: ldmatrix of 16 bytes at offset 4096 of shared memory, which has 4096 bytes$/,
  unwritten: /thread 54: read of byte 36 of shared memory, which nothing has been written to$/,
  "beyond global": /thread 63: write of 4 bytes at offset 256 of a device buffer of 256 bytes$/,
  "read beyond global": /thread 32: read of 4 bytes at offset 256 of a device buffer of 256 bytes$/,
  "load_once beyond global": /thread 16: load_once of 16 bytes at offset 256 of a device buffer of 256 bytes$/,
  "vector at odd word": misaligned(1, "uint4", 16),
  "shared vector at odd word": misaligned(0, "uint2", 8),
  "half at odd byte": misaligned(0, "uint16_t", 2),
  "load_once at odd word": /thread 1: load_once at a global address that is not a multiple of 16$/,
  "host memory": /thread 0: write of 4 bytes at an address that is in no device buffer$/,
  "before the previous kernel ends": /: write of 4 bytes of a device buffer before previous_kernel_wait, /,
  "global: two write": globalRace("write", "write by thread 0"),
  "global: read without barrier": globalRace("read", "write by thread 0"),
  "global: overwrite without barrier": globalRace("write", "read by thread 0"),
  "global: halves of a word": globalRace("read", "write by thread 0"),
  "blocks write the same": raceOfBlocks("write", "write by thread 0"),
  "block overwrites what another reads": raceOfBlocks("write", "read by thread 0"),
  "last block adds, no barrier before": raceOfBlocks("read", "write by thread 32"),
  "last block adds, no barrier after": raceOfBlocks("read", "write by thread 32"),
  "counts in floats": raceOfBlocks("read", "write by thread 0"),
  "copy not awaited": underWay,
  "copy of odd address": /thread 0: copy_async_16 at a global address that is not a multiple of 16$/,
  "copy beyond global": /thread 16: copy_async_16 of 16 bytes at offset 256 of a device buffer of 256 bytes$/,
  "bulk copy not awaited": underWay,
  "bulk copy onto what is read": race("bulk_copy", "read by thread 63"),
  "too few bytes expected": stuck("threads 0 to 63 wait at barrier_wait$"),
  "odd bulk copy": /: bulk_copy of 24 bytes, which is not a positive multiple of 16$/,
  "ends while copying": /: the block ended while copies to its shared memory were under way; wait for their mbarrier first$/,
  "one arrival too many": /: one more arrival at the mbarrier at byte 2048 of shared memory than the 32 of its phase$/,
  "barrier not initialised": /: barrier_arrive at byte 2048 of shared memory, where no mbarrier was initialised$/,
  "barrier before block_sync":
    /thread 1: barrier_arrive on the mbarrier at byte 2048 .* no barrier between that and barrier_init by thread 0$/,
  "barrier overwritten": /thread 0: write of byte 2048 of shared memory, which is in an mbarrier$/,
  "tensor to odd place": /: tensor_copy at offset 128 of shared memory, which is not a multiple of 1024$/,
  "tensor from odd place": /: tensor_copy from byte 24 of rows, which is not a multiple of 16$/,
  "tensor store of odd rows": /: tensor_store into rows of 122 bytes, not a multiple of 16: it would write beyond their end$/,
  "arrives at ended block": /block \(0, 0, 0\), thread \d+: barrier_arrive for block 1 of the cluster, which has ended$/,
  "ring without wait": underWay,
  "ring with one group pending too many": underWay,
  "ring with wait after barrier": underWay,
  "ring without barrier": race("read", "write by thread 0"),
  "ring refilled while it is read": race("read", "write by thread 0"),
  "ring overwritten by sums": race("write", "(read|write) by thread \\d+"),
  "sums read without barrier": race("read", "write by thread \\d+"),
  "sums read behind the barrier of a team": race("read", "write by thread \\d+"),
  "engine without wait for full": /: read of byte \d+ of shared memory, which nothing has been written to$/,
  "engine without wait for empty": /: one more arrival at the mbarrier at byte 2048 of shared memory than the 1 of its phase$/,
  "engine with wrong parity": /: read of byte \d+ of shared memory, which nothing has been written to$/,
  "engine one phase behind": race("bulk_copy", "read by thread \\d+"),
  "engine freed before it is read": race("bulk_copy", "read by thread 63"),
  "unordered metadata": /: sparse metadata 2 keeps positions 2 and 0; the first must be the lower$/,
  "wgmma without fence": /: wgmma without wgmma_fence /,
  "wgmma without proxy fence": /: wgmma of byte 0 of shared memory, which thread 0 wrote without async_proxy_fence after it$/,
  "wgmma accumulator touched": /: (read|write) of an accumulator of a product that is under way; wgmma_wait comes first$/,
  "wgmma tile overwritten": /thread 0: write of byte 0 of shared memory, which a product that is under way reads$/,
  "wgmma different": /thread 100: wgmma differs from the one that other threads of its warpgroup gave; all must give the same$/,
  "wgmma without wait": /: the block ended while products of a warpgroup were under way; commit and wait for them first$/,
  "wgmma past row": /: wgmma reads 32 bytes of each row from byte 112 on, beyond its 128$/,
  "wgmma of another order": /: wgmma with a matrix descriptor that transposed_descriptor does not make$/,
  "wgmma without warpgroup": /: wgmma needs a warpgroup of 128 threads, and this thread is in none$/,
  "broken warp": /: a block must have whole warps and at most 1024 threads, not 40 threads$/,
  "too many threads": /: a block must have whole warps and at most 1024 threads, not 1056 threads$/,
  "no blocks": /: the grid has no blocks$/,
  "broken cluster": /: a cluster of 2 blocks; a cluster has 1 to 8, and they divide the grid in x, which has 3$/,
  "too much shared memory": /: 262144 bytes of shared memory are more than the 232448 of a block$/,
  "tensor map of odd stride": /^tensor map: the stride of rows must be a multiple of 16 bytes, not 136$/,
  "tensor map of wide box": /^tensor map: rows of a box must have 128 bytes, not 256$/,
};

emulated("wrong kernels are coded errors that name what is wrong, and the next one runs", async (t) => {
  const reported = (await run("emulator_misuse")).map((line) => line.split("\t"));
  t.deepEqual(
    reported
      .map(([name]) => name)
      .filter((name) => !/ right\b/.test(name!))
      .sort(),
    Object.keys(mistakes).sort(),
  );
  for (const [name, code, message] of reported) {
    const expected = mistakes[name!];
    if (!expected) {
      t.is(code, "none", name);
      continue;
    }
    t.is(code, name!.startsWith("tensor map") ? "INVALID_ARGUMENT" : "GPU_FAILED", name);
    t.regex(message!, expected, name);
  }
});
