/** Suite `matmul-cpu`: matrix products at the sizes of a Conformer's layers, beside OpenBLAS, oneDNN, onnxruntime and ggml. */
import { matmul, setThreadCount, Tensor, threadCount } from "../../lib/index.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import { Ggml } from "../peers/ggml.js";
import { OneDnn } from "../peers/onednn.js";
import { OnnxRuntime } from "../peers/onnxruntime.js";
import { OpenBlas, type MatmulWork } from "../peers/openblas.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";
import { values } from "../values.js";
import { packedProducts } from "./packed_products.js";
import { recordPreparation } from "./prepack.js";

interface MatmulCase extends MatmulWork {
  name: string;
}

/** x (m, k) · Wᵀ, W (n, k) */
const forward = (m: number, k: number, n: number): MatmulCase => ({
  name: `forward ${m}x${k}x${n}`,
  transposeA: false,
  transposeB: true,
  m,
  k,
  n,
});
/** dX (m, n) = dY (m, k) · W (k, n) */
const inputGradient = (m: number, k: number, n: number): MatmulCase => ({
  ...forward(m, k, n),
  name: `input gradient ${m}x${k}x${n}`,
  transposeB: false,
});
/** dW (m, n) = dYᵀ · X with dY (k, m), X (k, n) */
const weightGradient = (m: number, k: number, n: number): MatmulCase => ({
  ...forward(m, k, n),
  name: `weight gradient ${m}x${k}x${n}`,
  transposeA: true,
  transposeB: false,
});

const cases: readonly MatmulCase[] = [
  forward(256, 1024, 1024),
  forward(1500, 512, 2048),
  forward(1500, 256, 1024),
  forward(400, 256, 1024),
  forward(1, 4096, 4096),
  forward(4, 4096, 4096),
  forward(16, 4096, 4096),
  inputGradient(1000, 2048, 512),
  weightGradient(2048, 1000, 512),
  weightGradient(256, 4000, 256),
];

/** This package's kernels; one that cannot do a piece of work (only forward products, say) returns undefined. */
const ours: readonly ((work: MatmulCase) => Contestant | undefined)[] = [float32Product, ...packedProducts];

function float32Product(work: MatmulCase): Contestant {
  const { transposeA, transposeB, m, n, k } = work;
  const a = Tensor.from(values(m * k), transposeA ? [k, m] : [m, k]);
  const b = Tensor.from(values(k * n), transposeB ? [n, k] : [k, n]);
  return {
    impl: "usm-lite",
    spec: "float32",
    note: "weights in rows, as they are trained",
    run: (repetitions) => timed(() => matmul(a, b, { transposeA, transposeB }).dispose(), repetitions),
    dispose: () => {
      a.dispose();
      b.dispose();
    },
  };
}

/** What is installed beside this package. */
interface Peers {
  openBlas: OpenBlas | undefined;
  oneDnn: OneDnn | undefined;
  ggml: Ggml | undefined;
  onnxRuntime: OnnxRuntime | undefined;
}

const ggmlTypes = { q4_0: "int4/g32", tq2_0: "ternary/g256" };

async function contestants(work: MatmulCase, threads: number, peers: Peers): Promise<Contestant[]> {
  const list = ours.map((make) => make(work)).filter((contestant) => contestant !== undefined);
  const { openBlas, oneDnn, ggml, onnxRuntime } = peers;
  if (openBlas) {
    list.push({ impl: openBlas.impl, spec: "float32", run: (repetitions) => openBlas.run(work, repetitions) });
  }
  if (work.transposeA || !work.transposeB) return list;
  if (oneDnn) {
    list.push({
      impl: oneDnn.impl,
      spec: "float32",
      note: "weights in its own layout",
      run: (repetitions) => oneDnn.run("f32", work, repetitions),
    });
    list.push({
      impl: oneDnn.impl,
      spec: "int8",
      note: "whole-number product alone: nothing is rounded or scaled",
      run: (repetitions) => oneDnn.run("u8s8", work, repetitions),
    });
  }
  if (ggml && work.m <= 256) {
    for (const [type, spec] of Object.entries(ggmlTypes)) {
      list.push({ impl: ggml.impl, spec, note: type, run: (repetitions) => ggml.run(type, work, repetitions) });
    }
  }
  if (onnxRuntime) {
    for (const { spec, ...product } of await onnxRuntime.matmuls(work, threads)) list.push({ impl: onnxRuntime.impl, spec, ...product });
  }
  return list;
}

/** Starts a peer that was compiled, or says why it is left out. */
async function started<Peer>(
  name: string,
  compiled: { path: string } | { reason: string },
  start: (path: string) => Promise<Peer>,
  log: (line: string) => void,
): Promise<Peer | undefined> {
  if ("path" in compiled) return start(compiled.path);
  log(`${name} is left out: ${compiled.reason}`);
  return undefined;
}

async function run(context: BenchmarkContext): Promise<void> {
  const onnxRuntime = OnnxRuntime.load();
  if (!onnxRuntime) context.log("onnxruntime-node is left out: it is not installed where Node.js can find it");
  const compiled = { openBlas: OpenBlas.compile(), oneDnn: OneDnn.compile(), ggml: Ggml.compile() };
  const threadsBefore = threadCount();
  for (const threads of context.threads) {
    setThreadCount(threads);
    const peers: Peers = {
      openBlas: await started("OpenBLAS", compiled.openBlas, (path) => OpenBlas.start(path, threads), context.log),
      oneDnn: await started("oneDNN", compiled.oneDnn, (path) => OneDnn.start(path, threads), context.log),
      ggml: await started("ggml", compiled.ggml, (path) => Ggml.start(path, threads), context.log),
      onnxRuntime,
    };
    for (const work of cases) {
      const { name, m, n, k } = work;
      const list = await contestants(work, threads, peers);
      const timings = await measureInTurn(list, { rounds: 9, millisecondsPerTurn: 12, millisecondsBetween: 20 });
      list.forEach(({ impl, spec, note }, index) => {
        const timing = timings[index];
        if (!timing) return;
        context.record({
          suite: "matmul-cpu",
          case: name,
          impl,
          spec,
          device: "cpu",
          threads,
          shape: { m, n, k },
          ...timing,
          gops: (2 * m * n * k) / timing.ms / 1e6,
          ...(note && { note }),
        });
      });
    }
    for (const peer of [peers.openBlas, peers.oneDnn, peers.ggml]) peer?.stop();
  }
  await recordPreparation(context);
  setThreadCount(threadsBefore);
}

export const matmulCpu: BenchmarkSuite = { name: "matmul-cpu", run };
