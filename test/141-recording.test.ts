import "./gpu.js";
import test from "ava";
import {
  DeviceSequences,
  DeviceStream,
  DeviceTensor,
  gpuMemoryStatistics,
  Recording,
  SequenceOffsets,
  Tensor,
  tidy,
  trimGpuMemory,
} from "../lib/operations.js";
import { deviceGlu, deviceLayerNorm } from "../lib/operations.js";
import { deviceExtendCache } from "../lib/device/cached_attention.js";
import { deviceSampleWindows } from "../lib/device/sample_encoder_operations.js";
import { RecordedPasses } from "../lib/device/recorded_passes.js";
import { convolvedLength, planeConvolution } from "../lib/ops/plane_convolution.js";
import { keep } from "../lib/tensor/scope.js";
import { randomTensor } from "./gradient.js";

/** Two steps with an intermediate result. */
const steps = (x: DeviceTensor, weight: DeviceTensor): DeviceTensor => tidy(() => deviceGlu(deviceLayerNorm(x, weight, { epsilon: 1e-5 })));

test("recorded work computes again with other values in the same place", (t) => {
  const [x, other] = [1, 2].map((seed) => DeviceTensor.from(randomTensor([5, 32], seed))) as [DeviceTensor, DeviceTensor];
  const weight = DeviceTensor.from(randomTensor([32], 3), "float32");
  const expected = [x, other].map((input) => steps(input, weight).toArray());
  const y: DeviceTensor[] = [];
  using recording = new Recording(() => y.push(keep(steps(x, weight))));
  recording.run();
  t.deepEqual((y[0] as DeviceTensor).toArray(), expected[0]);
  other.copyTo(x);
  recording.run();
  t.deepEqual((y[0] as DeviceTensor).toArray(), expected[1]);
});

test("what other streams do before a run is seen by it, and what it makes is seen by them", (t) => {
  const [x, ...others] = [1, 2, 3].map((seed) => DeviceTensor.from(randomTensor([5, 32], seed))) as [
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
  ];
  const weight = DeviceTensor.from(randomTensor([32], 3), "float32");
  const expected = others.map((input) => steps(input, weight).toArray());
  const y: DeviceTensor[] = [];
  using recording = new Recording(() => y.push(keep(steps(x, weight))));
  using stream = new DeviceStream();
  const found = others.map((other) => {
    other.copyTo(x, stream);
    recording.run();
    return (y[0] as DeviceTensor).clone(stream);
  });
  t.deepEqual(
    found.map((tensor) => tensor.toArray()),
    expected,
  );
  y[0]?.dispose();
  t.notThrows(() => recording.run());
});

test("nothing else gets the memory of recorded work, and what it reads stays", (t) => {
  const x = DeviceTensor.from(randomTensor([5, 32], 1));
  const weight = DeviceTensor.from(randomTensor([32], 3), "float32");
  const expected = steps(x, weight).toArray();
  const results: DeviceTensor[] = [];
  const recordings = [1, 2].map(() => new Recording(() => results.push(keep(steps(x, weight)))));
  weight.dispose(); // the recordings keep it
  trimGpuMemory();
  const others = Array.from({ length: 20 }, (_, i) => DeviceTensor.from(randomTensor([5, i < 10 ? 32 : 16], i)));
  const before = others.map((tensor) => tensor.toArray());
  for (const recording of recordings) recording.run();
  t.deepEqual(
    results.map((tensor) => tensor.toArray()),
    [expected, expected],
  );
  t.deepEqual(
    others.map((tensor) => tensor.toArray()),
    before,
  );
  const { bytesInUse } = gpuMemoryStatistics();
  for (const part of [...recordings, ...results]) part.dispose();
  t.true(gpuMemoryStatistics().bytesInUse < bytesInUse);
});

test("what cannot be recorded is a coded error, after which all goes on", (t) => {
  const x = DeviceTensor.from(randomTensor([2, 16], 1));
  t.throws(() => new Recording(() => void x.toArray()), { code: "GPU_FAILED" });
  t.throws(() => new Recording(() => void DeviceTensor.from(Tensor.zeros([2, 2]))), { code: "GPU_FAILED" });
  t.throws(() => new Recording(() => void new Recording(() => undefined)), { code: "INVALID_ARGUMENT", message: /do not nest/ });
  const inner = new Recording(() => undefined);
  t.throws(() => new Recording(() => inner.run()), { code: "INVALID_ARGUMENT", message: /cannot be run as part of it/ });
  t.throws(
    () =>
      new Recording(() => {
        throw new RangeError("of the caller");
      }),
    { instanceOf: RangeError },
  );
  t.throws(() => new Recording(42 as never), { code: "INVALID_ARGUMENT" });
  const recording = new Recording(() => undefined);
  recording.run();
  recording.dispose();
  recording.dispose();
  t.throws(() => recording.run(), { code: "TENSOR_RELEASED" });
  using stream = new DeviceStream();
  t.is(deviceGlu(x, stream).toArray().length, 16);
});

test("sequences that are refilled without those that belong to them read and write nothing that is not theirs", (t) => {
  tidy(() => {
    const [samples, windows] = [new DeviceSequences(new SequenceOffsets([2, 10])), new DeviceSequences(new SequenceOffsets([0, 4]))];
    samples.refill(new SequenceOffsets([10, 2]));
    const x = DeviceTensor.from(Tensor.from(new Float32Array(12).fill(1)), "float32");
    const gathered = deviceSampleWindows(x, samples, { kernel: 4, stride: 2, outputs: windows }).toArray();
    t.deepEqual([...gathered], [1, 1, ...new Array<number>(30).fill(0)]);

    const [tokens, places] = [
      new DeviceSequences(new SequenceOffsets([2])),
      DeviceSequences.ofRows(new SequenceOffsets([3]), Tensor.from(Int32Array.of(0, 1, 2))),
    ];
    places.refill(new SequenceOffsets([1]), { rows: Tensor.from(Int32Array.of(1)) });
    const [keys, cache] = [
      DeviceTensor.from(
        Tensor.from(
          new Float32Array(16).map((_, i) => i),
          [2, 8],
        ),
      ),
      DeviceTensor.zeros([3, 8]),
    ];
    deviceExtendCache({ keys: cache, values: cache, sequences: places }, tokens, keys, keys);
    t.deepEqual([...cache.toArray()], [...new Array<number>(8).fill(0), ...keys.toArray().slice(8), ...new Array<number>(8).fill(0)]);
  });
  t.throws(() => new DeviceSequences(new SequenceOffsets(new Array<number>(65536).fill(0))), {
    code: "INVALID_ARGUMENT",
    message: /65536 sequences/,
  });
});

test("sequences are refilled within the room there is", (t) => {
  using sequences = new DeviceSequences(new SequenceOffsets([8, 4]));
  t.notThrows(() => sequences.refill(new SequenceOffsets([3, 8])));
  for (const lengths of [[9, 0], [8, 8], [8], [1, 1, 1]]) {
    t.throws(() => sequences.refill(new SequenceOffsets(lengths)), {
      code: "INVALID_ARGUMENT",
      message: /room for 2 sequences of at most 8 frames, 12 in all/,
    });
  }
});

test("passes are recorded for lengths that come again, and give what they give unrecorded", (t) => {
  const shape = { kernel: 3, stride: 2, padding: 1 };
  const [weight, bias] = [randomTensor([8, 1, 3, 3], 1), randomTensor([8], 2)];
  let forwards = 0;
  const forward = (x: Tensor, offsets: SequenceOffsets): { hidden: Tensor; offsets: SequenceOffsets } => {
    forwards++;
    const { output, offsets: after } = planeConvolution(x, weight, bias, offsets, { features: 4, ...shape });
    return { hidden: output, offsets: after };
  };
  const passes = new RecordedPasses({ forward, hiddenFrames: (frames) => convolvedLength(frames, 3, shape), capacity: 2 });
  const check = (lengths: number[], seed: number): void =>
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const x = randomTensor([offsets.frames, 4], seed);
      const device = DeviceTensor.from(x);
      const { hidden, offsets: after } = passes.run(device, offsets);
      const expected = planeConvolution(device, weight, bias, new SequenceOffsets(lengths), { features: 4, ...shape });
      t.deepEqual(after.lengths, expected.offsets.lengths);
      t.deepEqual(hidden.toArray(), expected.output.toArray());
    });
  check([7, 12], 1);
  t.deepEqual([forwards, passes.count], [1, 0]);
  check([7, 12], 2);
  t.deepEqual([forwards, passes.count], [3, 1]); // once to bring what it needs, once to record
  for (const lengths of [
    [8, 16],
    [9, 5],
    [1, 10],
  ])
    check(lengths, 3);
  t.deepEqual([forwards, passes.count], [3, 1]);
  for (const lengths of [[20], [20], [40], [40]]) check(lengths, 4);
  t.is(passes.count, 2);
  check([7, 12], 5); // was the least recently used
  t.deepEqual([forwards, passes.count], [11, 2]);
  check([0, 0], 6);
  passes.dispose();
  t.is(passes.count, 0);
  check([7, 12], 7);
});
