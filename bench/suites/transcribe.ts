/** Suite `transcribe`: log-mel features to log-probabilities, packed weights beside float32 ones. */
import { logSoftmax } from "../../lib/ops/softmax.js";
import { memoryStatistics, resetPeakMemory, setThreadCount, threadCount, trimMemory } from "../../lib/native/runtime.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import { randomNetwork, type NetworkSize } from "../random_network.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const melFramesPerSecond = 100;
const melBins = 128;

interface TranscribeCase {
  readonly name: string;
  readonly size: NetworkSize;
  /** Seconds of each utterance of one packed batch. */
  readonly seconds: readonly number[];
}

const cases: readonly TranscribeCase[] = [
  {
    name: "192x6, 5 x 4 s",
    size: { hidden: 192, layers: 6, heads: 4, vocabulary: 31, convolutionKernel: 15 },
    seconds: [4, 4, 4, 4, 4],
  },
  {
    name: "512x17, 1 x 10 s",
    size: { hidden: 512, layers: 17, heads: 8, vocabulary: 512, convolutionKernel: 32 },
    seconds: [10],
  },
];

const specs = ["float32", "int8", "int4", "int4+2:4"];

export const transcribe: BenchmarkSuite = {
  name: "transcribe",
  async run(context: BenchmarkContext): Promise<void> {
    const threadsBefore = threadCount();
    for (const { name, size, seconds } of cases) {
      const audioSeconds = seconds.reduce((a, b) => a + b, 0);
      for (const threads of context.threads) {
        setThreadCount(threads);
        const contestants = specs.map((spec) => contestant(size, seconds, spec));
        const timings = await measureInTurn(contestants, { rounds: 5, millisecondsPerTurn: 300 });
        timings.forEach((timing, index) => {
          const { impl, spec, note } = contestants[index] as Contestant;
          context.record({
            suite: "transcribe",
            case: name,
            impl,
            spec,
            device: "cpu",
            threads,
            ...timing,
            note: `RTFx ${(audioSeconds / (timing.ms / 1000)).toFixed(0)}; ${note ?? ""}`,
          });
        });
      }
    }
    setThreadCount(threadsBefore);
  },
};

function contestant(size: NetworkSize, seconds: readonly number[], spec: string): Contestant {
  trimMemory();
  const before = memoryStatistics().bytesInUse;
  const network = randomNetwork(size, spec);
  const resident = memoryStatistics().bytesInUse - before;
  const lengths = seconds.map((length) => length * melFramesPerSecond);
  const frames = lengths.reduce((a, b) => a + b, 0);
  const features = Float32Array.from({ length: frames * melBins }, (_, i) => Math.sin(i * 0.37) * 3 - 6);
  const pass = (): void => {
    tidy(() => {
      const { logits } = network.forward(Tensor.from(features, [frames, melBins]), new SequenceOffsets(lengths));
      logSoftmax(logits).toArray();
    });
  };
  resetPeakMemory();
  pass();
  const peak = memoryStatistics().peakBytes - before;
  const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  return {
    impl: "usm-lite",
    spec,
    note: `weights ${mebibytes(resident)} MiB, peak ${mebibytes(peak)} MiB`,
    run: (repetitions) => timed(pass, repetitions),
    dispose: () => network.dispose(),
  };
}
