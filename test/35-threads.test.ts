import test from "ava";
import {
  batchNorm,
  depthwiseConvolution,
  layerNorm,
  SequenceOffsets,
  setThreadCount,
  silu,
  Tape,
  Tensor,
  threadCount,
  tidy,
} from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

test("results do not depend on the number of threads, however many calls follow each other", (t) => {
  const before = threadCount();
  const offsets = new SequenceOffsets([150, 90]);
  const x = randomTensor([240, 96], 1);
  const [weight, bias, taps] = [randomTensor([96], 2), randomTensor([96], 3), randomTensor([96, 9], 4)];
  const compute = (): Float32Array =>
    tidy(() => {
      x.requiresGrad = true;
      using tape = new Tape();
      const y = tape.record(() => {
        const convolved = depthwiseConvolution(silu(layerNorm(x, weight, { epsilon: 1e-5 })), taps, offsets);
        const state = { runningMean: Tensor.zeros([96]), runningVariance: Tensor.zeros([96]), momentum: 0.1 };
        return batchNorm(convolved, weight, bias, { ...state, epsilon: 1e-5, training: true });
      });
      tape.backward(y, randomTensor(y.shape, 5));
      return (tape.gradientOf(x) as Tensor).toArray();
    });
  try {
    setThreadCount(1);
    const expected = compute();
    for (const threads of [2, 3, 8]) {
      setThreadCount(threads);
      for (let repeat = 0; repeat < 40; repeat++) t.deepEqual(compute(), expected, `${threads} threads`);
    }
  } finally {
    setThreadCount(before);
  }
});
