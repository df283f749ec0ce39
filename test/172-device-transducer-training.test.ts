import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceTensor, lstmSequence, SequenceOffsets, Tape, Tensor, tidy, transducerLoss } from "../lib/operations.js";
import { deviceTransducerLoss, deviceTransducerLossBackward, type DeviceTransducerBatch } from "../lib/device/transducer_training.js";
import { hasPath } from "../lib/ops/transducer_batch.js";
import { heldByBfloat16 } from "./device_steps.js";
import { randomTensor, randomValues } from "./gradient.js";
import { operands, plain, resultOf, timed, type TransducerCase } from "./transducer_cases.js";
import { inputsOn, parts, stepOn, type Device } from "./transducer_steps.js";

const labels = (count: number, vocabulary: number): number[] =>
  Array.from({ length: count }, (_, i) => 1 + ((i * i + 3 * i) % (vocabulary - 1)));
const durations = [0, 1, 2, 3, 4];

test("loss and gradients of transducers are those of the CPU, for empty and long transcripts, one frame and none, and sharp distributions", (t) => {
  const cases: TransducerCase[] = [
    { ...plain, options: { blank: 0, reduction: "mean" } },
    { ...timed, options: { ...timed.options, reduction: "sum" } },
    { lengths: [0, 40, 9, 23], targets: [[1], labels(11, 37), [], labels(30, 37)], vocabulary: 37, joint: 19, options: { blank: 0 } },
    { lengths: [33], targets: [labels(17, 33)], vocabulary: 33, joint: 16, options: { blank: 0, durations, reduction: "mean" } },
    { lengths: [12, 6], targets: [labels(4, 9), labels(5, 9)], vocabulary: 9, joint: 7, options: { blank: 0 }, scale: 40 },
    { lengths: [5, 3], targets: [labels(4, 300), [7]], vocabulary: 300, joint: 264, options: { blank: 0, durations }, scale: 0.2 },
    { lengths: [9, 1], targets: [labels(300, 5), []], vocabulary: 5, joint: 8, options: { blank: 0, durations: [0, 1] } },
  ];
  cases.forEach((one, which) => {
    const [found, expected] = [stepOn("cuda", one, which), stepOn("cpu", one, which)];
    found.forEach((values, part) => {
      const name = parts[part] as string;
      // Logits of a hundred are rounded to a quarter.
      const tolerance = name === "loss" ? 5e-3 : name === "infeasible" ? 0 : one.scale === 40 ? 5e-2 : 2e-2;
      assertClose(t, values, expected[part] as Float32Array, tolerance, `${name} of case ${which}`);
    });
    t.deepEqual(stepOn("cuda", one, which), found, "the same bits again");
  });
});

/** -ln of the probability of all paths of an utterance, from its part of the lattice. */
function lossOfLattice(lattice: Float32Array, frames: number, count: number, each: readonly number[]): number {
  const [places, kept] = [count + 1, 2 + each.length];
  const alpha = new Float64Array((frames + 1) * places).fill(-Infinity);
  alpha[0] = 0;
  const add = (t: number, u: number, term: number): void => {
    if (t > frames || (t === frames && u < count)) return;
    const [at, before] = [t * places + u, alpha[t * places + u] as number];
    const high = Math.max(before, term);
    if (high > -Infinity) alpha[at] = high + Math.log(Math.exp(before - high) + Math.exp(term - high));
  };
  for (let t = 0; t < frames; t++) {
    for (let u = 0; u <= count; u++) {
      const cell = (t * places + u) * kept;
      const [here, blank, label] = [alpha[t * places + u] as number, lattice[cell] as number, lattice[cell + 1] as number];
      const arcs =
        each.length > 0 ? each.map((duration, d) => [duration, duration, lattice[cell + 2 + d] as number] as const) : [[1, 0, 0] as const];
      for (const [silent, spoken, duration] of arcs) {
        if (silent > 0) add(t + silent, u, here + blank + duration);
        if (u < count && t + spoken < frames) add(t + spoken, u + 1, here + label + duration);
      }
    }
  }
  return -(alpha[frames * places + count] as number);
}

test("paths are summed without loss, however long they are", (t) => {
  for (const each of [[], [0, 1, 2, 4]]) {
    const one: TransducerCase = {
      lengths: [90],
      targets: [labels(25, 60)],
      vocabulary: 60,
      joint: 8,
      options: { blank: 0, durations: each },
      scale: 2,
    };
    const { loss, lattice } = resultOf(one, inputsOn("cuda", one, 2), { reduction: "sum" });
    const expected = lossOfLattice(lattice.toArray(), 90, 25, each);
    t.true(Math.abs((loss.toArray()[0] as number) / expected - 1) < 3e-7, `${loss.toArray()[0]}, not ${expected}`);
  }
});

test("the loss rises along its gradients by their squares", (t) => {
  for (const one of [plain, timed]) {
    tidy(() => {
      const summed: TransducerCase = { ...one, options: { ...one.options, reduction: "sum" } };
      const gradients = stepOn("cuda", summed, 5).slice(2);
      inputsOn("cuda", summed, 5).forEach((_, which) => {
        const gradient = gradients[which] as Float32Array;
        const square = gradient.reduce((sum, g) => sum + g * g, 0);
        const at = (step: number): number => {
          const inputs = inputsOn("cuda", summed, 5);
          const moved = (inputs[which] as Tensor).toArray().map((value, i) => value + step * (gradient[i] as number));
          (inputs[which] as Tensor).write(moved);
          return resultOf(summed, inputs).loss.toArray()[0] as number;
        };
        const step = 0.15 / square; // the loss changes by 0.3
        const numeric = (at(step) - at(-step)) / (2 * step * square);
        t.true(Math.abs(numeric - 1) < 0.05, `${parts[which + 2]}: ${numeric} times as much`);
      });
    });
  }
});

test("a batch is computed in slabs that hold parts of an utterance and of several", (t) => {
  tidy(() => {
    const one: TransducerCase = {
      lengths: [30, 0, 5, 12, 21],
      targets: [labels(12, 9), [], labels(2, 9), [], labels(14, 9)],
      vocabulary: 9,
      joint: 12,
      options: { blank: 0, durations: [0, 1, 3] },
    };
    const [frames, predictions, weight, bias] = inputsOn("cuda", one, 3) as [DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor];
    const batch = (slabRows: number): DeviceTransducerBatch => ({
      frames,
      predictions,
      bias,
      slabRows,
      offsets: new SequenceOffsets(one.lengths),
      predictionOffsets: new SequenceOffsets(one.targets.map(({ length }) => length + 1)),
      weight: weight.cast("bfloat16"),
      targets: Tensor.from(Int32Array.from(one.targets.flat())),
      blank: 0,
      durations: [0, 1, 3],
      undernormalization: 0,
    });
    const step = (slabRows: number): Float32Array[] => {
      const results = deviceTransducerLoss(batch(slabRows));
      const weightGradient = DeviceTensor.zeros(weight.shape, "float32");
      const gradients = deviceTransducerLossBackward(batch(slabRows), results, {
        factors: DeviceTensor.from(randomTensor([5], 4), "float32"),
        upstream: DeviceTensor.from(Tensor.from([2]), "float32"),
        divergenceUpstream: undefined,
        divergenceFactor: 0,
        wantsRows: true,
        wantsBias: true,
        weightGradient,
      });
      const all = [results.losses, results.lattice, gradients.frames, gradients.predictions, weightGradient, gradients.bias];
      return all.map((tensor) => (tensor as DeviceTensor).toArray());
    };
    const [whole, slabs] = [step(0), step(128)] as [Float32Array[], Float32Array[]];
    for (const exact of [0, 1, 2]) t.deepEqual(slabs[exact], whole[exact]);
    for (const sums of [3, 4, 5])
      assertClose(t, slabs[sums] as Float32Array, whole[sums] as Float32Array, 1e-2, `sums over slabs, ${sums}`);
  });
});

test("transcripts that do not fit have infinite loss, zeroed on request, and what is not finite gives NaN", (t) => {
  tidy(() => {
    // Durations of 2 cannot end after 3 frames; no frames hold nothing.
    const one: TransducerCase = {
      lengths: [4, 3, 0],
      targets: [[1], [1], []],
      vocabulary: 3,
      joint: 4,
      options: { blank: 0, durations: [2], reduction: "sum" },
    };
    const [loss, infeasible, ...gradients] = stepOn("cuda", one, 8) as [Float32Array, Float32Array, ...Float32Array[]];
    t.true(Number.isFinite(loss[0]));
    t.is(infeasible[0], 2);
    const [ofFrames] = gradients as [Float32Array];
    t.true(ofFrames.subarray(0, 16).some((g) => g !== 0) && ofFrames.subarray(16).every((g) => g === 0));
    t.is(resultOf(one, inputsOn("cuda", one, 8), { zeroInfinity: false }).loss.toArray()[0], Infinity);
    for (const bad of [NaN, Infinity]) {
      const values = operands(plain, 9);
      const frames = (values[0] as Tensor).toArray();
      frames[1] = bad;
      (values[0] as Tensor).write(frames);
      const inputs = values.map((tensor, index) => DeviceTensor.from(tensor, index < 2 ? "bfloat16" : "float32"));
      for (const input of inputs) input.requiresGrad = true;
      using tape = new Tape();
      const { loss: sum } = tape.record(() => resultOf(plain, inputs, { reduction: "sum" }));
      tape.backward(sum);
      t.true(Number.isNaN(sum.toArray()[0]) && Number.isNaN((tape.gradientOf(inputs[2] as Tensor) as Tensor).toArray()[0]));
      const gradient = (tape.gradientOf(inputs[0] as Tensor) as Tensor).toArray();
      t.true(Number.isNaN(gradient[0]) && gradient.subarray(4 * plain.joint).every(Number.isFinite), "of other utterances it is finite");
    }
  });
});

test("which transcripts fit is known before", (t) => {
  for (const each of [[], [1], [2], [0, 2], [0, 1], [0], [3, 5], [1, 4]]) {
    for (const one of [0, 1, 2, 3, 5, 7].flatMap((frames) => [0, 1, 2, 3].map((count) => ({ frames, count })))) {
      const fits = tidy(() => {
        const inputs = operands(
          { lengths: [one.frames], targets: [labels(one.count, 3)], vocabulary: 3, joint: 2, options: { blank: 0, durations: each } },
          1,
        );
        const shape: TransducerCase = {
          lengths: [one.frames],
          targets: [labels(one.count, 3)],
          vocabulary: 3,
          joint: 2,
          options: { blank: 0, durations: each },
        };
        return resultOf(shape, inputs).infeasible === 0;
      });
      t.is(hasPath(one.frames, one.count, each), fits, `${one.count} labels in ${one.frames} frames by ${each.join(", ")}`);
    }
  }
});

test("a teacher is followed along its paths as on the CPU", (t) => {
  for (const one of [plain, timed]) {
    const taught = (device: Device): Tensor =>
      resultOf(one, inputsOn(device, { ...one, scale: 3 }, 21), { undernormalization: 0, reduction: "sum" }).lattice;
    const step = (device: Device, share: number): Float32Array[] =>
      tidy(() => stepOn(device, one, 5, { teacher: taught(device), reduction: "sum", divergence: share }));
    for (const share of [3, -0.5]) {
      const [found, expected] = [step("cuda", share), step("cpu", share)];
      found.forEach((values, part) =>
        assertClose(t, values, expected[part] as Float32Array, 2e-2, `${parts[part]} with ${share} of a teacher`),
      );
    }
    const divergence = (device: Device): number =>
      tidy(
        () =>
          (
            resultOf(one, inputsOn(device, one, 5), { teacher: taught(device), reduction: "sum" }).divergence as Tensor
          ).toArray()[0] as number,
      );
    t.true(Math.abs(divergence("cuda") / divergence("cpu") - 1) < 1e-2);
  }
});

test("a layer over sequences, with its gradients, is that of the CPU", (t) => {
  for (const [hidden, lengths] of [
    [11, [5, 0, 1, 7]],
    [24, [3, 3, 3]],
    [136, [1, 3]],
    [8, [1]],
    [8, [0, 0]],
  ] as const) {
    const offsets = new SequenceOffsets(lengths);
    const step = (device: Device): Float32Array[] =>
      tidy(() => {
        const values = [randomTensor([offsets.frames, 4 * hidden], 1), randomTensor([4 * hidden, hidden], 2)].map(heldByBfloat16);
        const inputs =
          device === "cpu" ? values : values.map((tensor, index) => DeviceTensor.from(tensor, index === 0 ? "bfloat16" : "float32"));
        for (const input of inputs) input.requiresGrad = true;
        using tape = new Tape();
        const states = tape.record(() => lstmSequence(inputs[0] as Tensor, inputs[1] as Tensor, offsets));
        const seed = heldByBfloat16(randomTensor(states.shape, 3));
        tape.backward(states, device === "cpu" ? seed : DeviceTensor.from(seed));
        return [states, ...inputs.map((input) => tape.gradientOf(input) as Tensor)].map((tensor) => tensor.toArray());
      });
    const [found, expected] = [step("cuda"), step("cpu")];
    ["states", "gradient of inputs", "gradient of weights"].forEach((name, part) =>
      assertClose(t, found[part] as Float32Array, expected[part] as Float32Array, 2e-2, `${name}, ${lengths.join(", ")} rows of ${hidden}`),
    );
  }
});

test("misuse is a coded error", (t) => {
  tidy(() => {
    const one: TransducerCase = { ...plain, options: { blank: 0 } };
    const inputs = inputsOn("cuda", one, 1);
    const [frames, predictions, weight, bias] = inputs as [Tensor, Tensor, Tensor, Tensor];
    const refused = (change: Partial<TransducerCase>, message: RegExp, operandsOf: readonly Tensor[] = inputs): void =>
      void t.throws(() => resultOf({ ...one, ...change }, operandsOf), { code: "INVALID_ARGUMENT", message });
    refused({ targets: [[1, 2]] }, /4 sequences of frames but 1 targets/);
    refused({ targets: [[1, 3], [], [2], [2, 2, 1]] }, /label 3 must be between 0 and 2/);
    refused({ targets: [[1, 0], [], [2], [2, 2, 1]] }, /not the blank/);
    refused({ targets: [[1], [], [2], [2, 2, 1]] }, /predictionOffsets/);
    refused({ options: { blank: 7 } }, /blank/);
    refused({ options: { blank: 0, durations: [1, -1] } }, /durations/);
    refused({ options: { blank: 0, durations: [1, 2, 3] } }, /rows for a vocabulary/);
    refused({ options: { blank: 0, reduction: "none" } }, /on the GPU losses are reduced/);
    refused({ options: { blank: 0, teacher: Tensor.zeros([3]) } }, /teacher is on the CPU/);
    refused({ options: { blank: 0, teacher: DeviceTensor.zeros([3], "float32") } }, /teacher must have shape/);
    refused({}, /weight is on the CPU/, [frames, predictions, Tensor.zeros([3, 5]), bias]);
    refused({}, /predictions must be bfloat16/, [frames, DeviceTensor.zeros([10, 5], "float32"), weight, bias]);
    refused({}, /bias must have shape/, [frames, predictions, weight, DeviceTensor.zeros([7], "float32")]);
    const many = Array.from({ length: 17 }, (_, i) => i);
    t.throws(
      () =>
        transducerLoss(frames, new SequenceOffsets(one.lengths), predictions, one.targets, { weight, bias }, { blank: 0, durations: many }),
      {
        code: "UNSUPPORTED_SPEC",
        message: /17 durations; on the GPU there can be 16/,
      },
    );
    const offsets = new SequenceOffsets([3]);
    t.throws(() => lstmSequence(DeviceTensor.zeros([3, 8]), DeviceTensor.zeros([8, 3]), offsets), {
      code: "INVALID_ARGUMENT",
      message: /recurrent must be/,
    });
    t.throws(() => lstmSequence(DeviceTensor.zeros([3, 8]), Tensor.zeros([8, 2]), offsets), {
      code: "INVALID_ARGUMENT",
      message: /on the CPU/,
    });
    t.throws(() => lstmSequence(DeviceTensor.from(Tensor.from(randomValues(24, 1), [2, 12])), DeviceTensor.zeros([12, 3]), offsets), {
      code: "INVALID_ARGUMENT",
    });
  });
});
