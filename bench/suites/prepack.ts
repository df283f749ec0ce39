/** How long it takes to make the weights of a model ready to multiply, for suite `matmul-cpu`. */
import { PackedMatrix, packWeight, setThreadCount, Tensor, tidy } from "../../lib/index.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import type { BenchmarkContext } from "../record.js";
import { values } from "../values.js";

const specs = ["float32", "int8", "int4", "int4/g128", "ternary", "int4+2:4", "int4+1:4", "int8+2:4", "uint4+2:4"];
/** One layer; the time of a model of 600 million parameters is that of as many such layers. */
const [out, columns] = [2048, 2048];
const MODEL_PARAMETERS = 600e6;

function preparation(spec: string): Contestant {
  const packed = tidy(() => packWeight(Tensor.from(values(out * columns), [out, columns]), spec));
  return {
    impl: "usm-lite",
    spec,
    note: "600 million parameters, computed from one layer of 2048 x 2048",
    run: (repetitions) => timed(() => PackedMatrix.from(packed).dispose(), repetitions),
    dispose: () => [packed.packed, packed.scale, packed.zeroPoint, packed.mask].forEach((tensor) => tensor?.dispose()),
  };
}

/** Records case `prepack` for every number of threads. */
export async function recordPreparation(context: BenchmarkContext): Promise<void> {
  const layers = MODEL_PARAMETERS / (out * columns);
  for (const threads of context.threads) {
    setThreadCount(threads);
    const list = specs.map(preparation);
    const timings = await measureInTurn(list, { rounds: 5, millisecondsPerTurn: 20 });
    list.forEach(({ impl, spec, note }, index) => {
      const timing = timings[index];
      if (!timing) return;
      const { ms, ms_min, ms_max, runs } = timing;
      context.record({
        suite: "matmul-cpu",
        case: "prepack",
        impl,
        spec,
        device: "cpu",
        threads,
        ms: ms * layers,
        ms_min: ms_min * layers,
        ms_max: ms_max * layers,
        runs,
        ...(note && { note }),
      });
    });
  }
}
