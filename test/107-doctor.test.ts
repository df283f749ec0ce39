import { realGpu } from "./gpu.js";
import test from "ava";
import type { Examination } from "../lib/device/examination.js";
import { usmLite } from "./command_line.js";

test("doctor says what computes", async (t) => {
  const { status, stdout } = await usmLite("doctor");
  t.is(status, 0);
  t.regex(stdout, /kernels +(avx512|avx2|reference) \(available: reference/);
  t.regex(stdout, /threads +1\n/);
  t.regex(stdout, realGpu ? /GPU +NVIDIA.*compute capability/ : /GPU +emulated GPU, compute capability 9\.0/);
  t.regex(stdout, /Everything is as it should be\.\n$/);
  const examination = JSON.parse((await usmLite("doctor", "--json")).stdout) as Examination;
  t.deepEqual(examination.advice, []);
  t.true(examination.gpu?.works && examination.processor.threads === 1);
});

test.serial("doctor says what is missing and what would be right", async (t) => {
  const before = { ...process.env };
  try {
    process.env["USMLITE_ISA"] = "reference";
    if (!realGpu) process.env["USMLITE_EMULATED_GPU"] = "old-driver";
    const { status, stdout } = await usmLite("doctor");
    t.is(status, 0);
    t.regex(stdout, /USMLITE_ISA or a program chose reference although this processor has/);
    if (!realGpu) t.regex(stdout, /GPU: .*too old.* \[DRIVER_TOO_OLD\]/);
  } finally {
    process.env = before;
  }
});
