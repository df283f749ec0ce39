/** Suite `matmul-cpu`: matrix products at the sizes of a Conformer's layers, beside OpenBLAS and onnxruntime. */
import { matmul, setThreadCount, Tensor, threadCount } from "../../lib/index.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import { OnnxRuntime } from "../peers/onnxruntime.js";
import { OpenBlas, type MatmulWork } from "../peers/openblas.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";
import { values } from "../values.js";
import { packedProducts } from "./packed_products.js";

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
  forward(1000, 512, 2048),
  forward(1000, 2048, 512),
  forward(1500, 512, 2048),
  forward(1500, 256, 1024),
  forward(400, 256, 1024),
  forward(100, 256, 1024),
  forward(1, 1024, 1024),
  forward(1, 4096, 4096),
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
    run: (repetitions) => timed(() => matmul(a, b, { transposeA, transposeB }).dispose(), repetitions),
    dispose: () => {
      a.dispose();
      b.dispose();
    },
  };
}

async function contestants(
  work: MatmulCase,
  threads: number,
  openBlas: OpenBlas | undefined,
  onnxRuntime: OnnxRuntime | undefined,
): Promise<Contestant[]> {
  const list = ours.map((make) => make(work)).filter((contestant) => contestant !== undefined);
  if (openBlas) {
    list.push({ impl: openBlas.impl, spec: "float32", run: (repetitions) => openBlas.run(work, repetitions) });
  }
  if (onnxRuntime && !work.transposeA) {
    const { m, k, n } = work;
    const product = await onnxRuntime.matmul(work, { x: values(m * k), weight: values(k * n) }, threads);
    list.push({ impl: onnxRuntime.impl, spec: "float32", ...product });
  }
  return list;
}

async function run(context: BenchmarkContext): Promise<void> {
  const compiled = OpenBlas.compile();
  if ("reason" in compiled) context.log(`OpenBLAS is left out: ${compiled.reason}`);
  const onnxRuntime = OnnxRuntime.load();
  if (!onnxRuntime) context.log("onnxruntime-node is left out: it is not installed where Node.js can find it");
  const threadsBefore = threadCount();
  for (const threads of context.threads) {
    setThreadCount(threads);
    const openBlas = "path" in compiled ? await OpenBlas.start(compiled.path, threads) : undefined;
    for (const work of cases) {
      const { name, m, n, k } = work;
      const list = await contestants(work, threads, openBlas, onnxRuntime);
      const timings = await measureInTurn(list);
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
    openBlas?.stop();
  }
  setThreadCount(threadsBefore);
}

export const matmulCpu: BenchmarkSuite = { name: "matmul-cpu", run };
