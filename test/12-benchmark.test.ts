import { spawnSync } from "node:child_process";
import { join } from "node:path";
import test from "ava";
import { measureInTurn, median } from "../bench/measure.js";
import { packageRoot } from "../bench/package_root.js";
import { recordLine } from "../bench/record_line.js";
import { transcriptionRecord } from "../bench/suites/transcribe.js";

test("contestants take turns and get the median of their runs", async (t) => {
  const order: string[] = [];
  const contestant = (impl: string, ms: number) => ({
    impl,
    spec: "float32",
    run: (repetitions: number) => {
      order.push(impl);
      return Array.from({ length: repetitions }, () => ms);
    },
    dispose: () => order.push(`${impl} disposed`),
  });
  const timings = await measureInTurn([contestant("a", 20), contestant("b", 40)], {
    rounds: 2,
    millisecondsPerTurn: 60,
  });
  t.deepEqual(timings, [
    { ms: 20, ms_min: 20, ms_max: 20, runs: 6 },
    { ms: 40, ms_min: 40, ms_max: 40, runs: 4 },
  ]);
  t.deepEqual(order.slice(4), ["a", "a", "b", "b", "a", "a", "b", "b", "a disposed", "b disposed"]);
  t.is(median([3, 1, 2]), 2);
  t.is(median([4, 1, 2, 3]), 2.5);
});

test("a wrong command line ends with 2 and says what would be right", (t) => {
  for (const [words, message] of [
    [["--filter", "nothing"], /no suite has "nothing"/],
    [["--threads", "0"], /numbers from 1 to 256/],
    [["--what"], /usage: npm run bench/],
  ] as const) {
    const { status, stderr } = spawnSync(process.execPath, [join(packageRoot, "dist/bench/main.js"), ...words], {
      encoding: "utf8",
    });
    t.is(status, 2);
    t.regex(stderr, message);
  }
});

test("a record of transcription gives speed and memory as numbers", (t) => {
  const timing = { ms: 200, ms_min: 150, ms_max: 300, runs: 7 };
  const run = (): number[] => [];
  const common = { suite: "transcribe", case: "30 s", device: "cpu", threads: 2, ...timing, rtfx: 150 };
  t.deepEqual(transcriptionRecord("30 s", 2, 30, { impl: "usm-lite", spec: "int4", peakBytes: 5, weightBytes: 3, run }, timing), {
    ...common,
    impl: "usm-lite",
    spec: "int4",
    peakBytes: 5,
    weightBytes: 3,
  } as const);
  t.deepEqual(transcriptionRecord("30 s", 2, 30, { impl: "PyTorch", spec: "float32", note: "eager", run }, timing), {
    ...common,
    impl: "PyTorch",
    spec: "float32",
    note: "eager",
  } as const);
});

test("a line shows a speed beside the first of the same work, and the note", (t) => {
  const common = { suite: "s", case: "work", spec: "int4", device: "cpu", threads: 1, ms_min: 1, ms_max: 9, runs: 3 } as const;
  const first = { ...common, impl: "usm-lite", ms: 2 };
  const slower = { ...common, impl: "peer", ms: 4, note: "eager" };
  t.regex(recordLine(first, []), /^work +1 thr usm-lite +int4 +2\.000 ms +1\.00x +\(1\.000\.\.9\.000, 3 runs\)$/);
  t.regex(recordLine(slower, [first]), / 4\.000 ms +0\.50x .* eager$/);
  for (const other of [{ threads: 2 }, { case: "other work" }, { shape: { m: 1, n: 2, k: 3 } }]) {
    t.regex(recordLine({ ...slower, ...other }, [first]), / 1\.00x /);
  }
});
