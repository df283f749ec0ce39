/**
 * Self-attention of a recording on the CPU, in floats and in whole numbers, on every instruction set of this processor: 30 s of the default
 * model (rotary positions) and of Parakeet 0.6B (relative positions).
 */
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { attention } from "../../lib/ops/attention.js";
import { relativeAttention } from "../../lib/ops/relative_attention.js";
import { availableInstructionSets, instructionSet, setInstructionSet, setThreadCount, threadCount } from "../../lib/native/runtime.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";
import { values } from "../values.js";

type Attend = (inIntegers: boolean) => Tensor;

/** (frames, heads * headDimension), in [-1, 1). */
function tensor(rows: number, columns: number): Tensor {
  return Tensor.from(values(rows * columns), [rows, columns]);
}

function withRotaryPositions(frames: number, heads: number, headDimension: number): Attend {
  const [query, key, value] = [0, 1, 2].map(() => tensor(frames, heads * headDimension)) as [Tensor, Tensor, Tensor];
  const offsets = new SequenceOffsets([frames]);
  return (inIntegers) => attention(query, key, value, offsets, { heads, ropeTheta: 10_000, inIntegers });
}

function withRelativePositions(frames: number, heads: number, headDimension: number): Attend {
  const width = heads * headDimension;
  const [query, key, value] = [0, 1, 2].map(() => tensor(frames, width)) as [Tensor, Tensor, Tensor];
  const positions = { keys: tensor(2 * frames - 1, width), origin: frames - 1 };
  const [contentBias, positionBias] = [tensor(heads, headDimension), tensor(heads, headDimension)];
  const offsets = new SequenceOffsets([frames]);
  return (inIntegers) => relativeAttention(query, key, value, positions, offsets, { heads, contentBias, positionBias, inIntegers });
}

export const attentionCpu: BenchmarkSuite = {
  name: "attention-cpu",
  async run({ threads, record }: BenchmarkContext): Promise<void> {
    const cases: Record<string, Attend> = {
      "750 frames, 4 heads of 48, rotary positions": withRotaryPositions(750, 4, 48),
      "375 frames, 8 heads of 128, relative positions": withRelativePositions(375, 8, 128),
    };
    const sets = availableInstructionSets().filter((set) => set !== "reference");
    const chosen = instructionSet();
    for (const count of threads) {
      setThreadCount(count);
      for (const [name, attend] of Object.entries(cases)) {
        const contestants = sets.flatMap((set) =>
          [false, true].map((inIntegers): Contestant => ({
            impl: `usm-lite, ${set}`,
            spec: inIntegers ? "integers" : "float32",
            run(repetitions) {
              setInstructionSet(set);
              return timed(() => tidy(() => void attend(inIntegers)), repetitions);
            },
          })),
        );
        const timings = await measureInTurn(contestants, { rounds: 15, millisecondsPerTurn: 150, millisecondsBetween: 5 });
        setInstructionSet(chosen);
        timings.forEach((timing, index) => {
          const { impl, spec } = contestants[index] as Contestant;
          record({ suite: "attention-cpu", case: name, impl, spec, device: "cpu", threads: threadCount(), ...timing });
        });
      }
    }
  },
};
