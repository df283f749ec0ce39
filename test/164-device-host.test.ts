import { assertClose, realGpu } from "./gpu.js";
import test from "ava";
import {
  DeviceEvent,
  DeviceStream,
  DeviceTensor,
  gpuHostTraffic,
  PinnedBuffer,
  Recording,
  Tensor,
  tidy,
  UsmLiteError,
} from "../lib/operations.js";
import { PendingDownload } from "../lib/device/pending_download.js";
import { randomValues } from "./gradient.js";

test("values go to the GPU and back through a pinned buffer, without waiting", (t) => {
  for (const [rows, columns] of [
    [1, 1],
    [3, 5],
    [7, 64],
  ] as const) {
    for (const type of ["float32", "bfloat16", "float16"] as const) {
      using there = new PinnedBuffer(rows * columns);
      using back = new PinnedBuffer(rows * columns + 3);
      const values = randomValues(rows * columns, rows);
      there.values.set(values);
      back.values.fill(-1);
      tidy(() => {
        const x = DeviceTensor.zeros([rows, columns], type);
        using copied = new DeviceEvent();
        x.writeFrom(there);
        x.readInto(back);
        copied.record();
        if (!realGpu) t.false(copied.done);
        copied.synchronize();
        t.true(copied.done);
        assertClose(
          t,
          back.values.slice(0, rows * columns),
          values,
          type === "float32" ? 0 : type === "float16" ? 2 ** -11 : 2 ** -8,
          `${rows} x ${columns}, ${type}`,
        );
        t.deepEqual(x.toArray(), back.values.slice(0, rows * columns));
        t.deepEqual([...back.values.slice(-3)], [-1, -1, -1]);
      });
    }
  }
});

test("many copies from the host at once do not get into each other's way", (t) => {
  tidy(() => {
    // Nothing waits between them: memory of a copy under way must not be used for the next one.
    const tensors = Array.from({ length: 40 }, (_, i) => DeviceTensor.from(Tensor.from(new Float32Array(60).fill(i), [5, 12]), "float32"));
    tensors.forEach((tensor, i) =>
      t.true(
        tensor.toArray().every((value) => value === i),
        `tensor ${i}`,
      ),
    );
    const large = new Float32Array(3 << 20).fill(7); // more than is staged
    t.true(
      DeviceTensor.from(Tensor.from(large, [3, 1 << 20]), "float32")
        .toArray()
        .every((value) => value === 7),
    );
  });
});

test("events are of streams, and tell the time between them", (t) => {
  using stream = new DeviceStream();
  using begin = new DeviceEvent();
  using end = new DeviceEvent();
  t.true(begin.done);
  begin.record(stream);
  tidy(() => void DeviceTensor.zeros([64, 64], "bfloat16", stream));
  end.record(stream);
  t.true(end.millisecondsSince(begin) >= 0);
  t.true(end.done);
});

test("values stay readable when their buffer is disposed of", (t) => {
  const buffer = new PinnedBuffer(4);
  buffer.values.set([1, 2, 3, 4]);
  buffer.dispose();
  buffer.dispose();
  t.true(buffer.released);
  const others = Array.from({ length: 4 }, () => new PinnedBuffer(4));
  for (const other of others) other.values.fill(9);
  t.deepEqual([...buffer.values], [1, 2, 3, 4]);
  for (const other of others) other.dispose();
});

test("copies between host and GPU, and waits, are counted", (t) => {
  tidy(() => {
    const before = gpuHostTraffic();
    const x = DeviceTensor.from(Tensor.from(randomValues(15, 1), [3, 5]), "float32");
    x.toArray();
    const after = gpuHostTraffic();
    t.deepEqual(after, {
      copiesToGpu: before.copiesToGpu + 1,
      bytesToGpu: before.bytesToGpu + 60,
      copiesToHost: before.copiesToHost + 1,
      bytesToHost: before.bytesToHost + 60,
      waits: before.waits + 1,
    });
    x.clone();
    t.deepEqual(gpuHostTraffic(), after, "what stays on the GPU is none of them");
  });
});

test("a download that is waited for later has what was there when it was asked for", (t) => {
  tidy(() => {
    using download = new PendingDownload(6);
    const x = DeviceTensor.from(Tensor.from([1, 2, 3, 4], [1, 4]), "float32");
    download.begin(x);
    DeviceTensor.zeros([1, 4], "float32").copyTo(x);
    t.deepEqual([...download.take().slice(0, 4)], [1, 2, 3, 4]);
    download.begin(x);
    DeviceTensor.from(Tensor.from([5, 6, 7, 8], [1, 4]), "float32").copyTo(x);
    download.begin(x); // in place of that
    t.deepEqual([...download.take().slice(0, 4)], [5, 6, 7, 8]);
  });
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  t.throws(() => new PinnedBuffer(0), invalid);
  t.throws(() => new PinnedBuffer(1.5e12), invalid);
  const buffer = new PinnedBuffer(4);
  tidy(() => {
    const x = DeviceTensor.zeros([1, 5]);
    t.throws(() => x.writeFrom(buffer), { ...invalid, message: /5 values but the buffer has 4/ });
    t.throws(() => x.readInto(buffer), { ...invalid, message: /5 values but the buffer has 4/ });
    t.throws(() => DeviceTensor.zeros([4], "int8").readInto(buffer), { ...invalid, message: /int8; pinned buffers hold floats/ });
    t.throws(() => x.writeFrom({ handle: x.handle } as unknown as PinnedBuffer), { ...invalid, message: /pinned must be a pinned buffer/ });
    buffer.dispose();
    t.throws(() => DeviceTensor.zeros([4]).readInto(buffer), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
    const event = new DeviceEvent();
    event.dispose();
    using recorded = new DeviceEvent();
    t.throws(() => new Recording(() => recorded.record()), {
      instanceOf: UsmLiteError,
      code: "GPU_FAILED",
      message: /while recording work: it cannot record an event/,
    });
    t.throws(() => event.record(), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
  });
});
