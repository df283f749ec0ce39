import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { keep, memoryStatistics, Tensor, Trainer, UsmLiteError, warmupConstant, type TrainerOptions } from "../lib/index.js";
import { fakeRounding } from "./fake_rounding.js";
import { SmallBatches, SmallCtcModel } from "./small_ctc_model.js";

const folders: string[] = [];
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "usm-lite-trainer-"));
  folders.push(folder);
  return folder;
}
test.after.always(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

const options = (folder: string, totalSteps: number): TrainerOptions => ({
  folder,
  totalSteps,
  schedule: warmupConstant({ peak: 0.02, warmupSteps: 5 }),
  averageDecay: 0.9,
});

/** Everything a run depends on. */
const bits = (model: SmallCtcModel, trainer: Trainer): number[][] =>
  [...model.parameters().values(), ...model.buffers().values(), ...trainer.weights().values()].map((tensor) => [...tensor.toArray()]);

const lines = (folder: string): Record<string, unknown>[] =>
  readFileSync(join(folder, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test.serial("a small model learns", async (t) => {
  const folder = temporaryFolder();
  const trainer = new Trainer(new SmallCtcModel(), new SmallBatches(), options(folder, 150));
  const result = await trainer.run();
  t.true(result.completed);
  const losses = lines(folder).map((line) => line["loss"] as number);
  t.is(losses.length, 150);
  t.true((losses[0] as number) > 1 && (losses[149] as number) < 0.2, `${losses[0]} to ${losses[149]}`);
});

test.serial("six steps are three, a checkpoint and three more, bit for bit", async (t) => {
  for (const accumulate of [1, 3]) {
    const straight = new SmallCtcModel();
    const straightFolder = temporaryFolder();
    const compressed = fakeRounding(straight);
    const whole = new Trainer(straight, new SmallBatches(), { ...options(straightFolder, 6), accumulate, modifiers: [compressed] });
    await whole.run();

    const folder = temporaryFolder();
    const before = new SmallCtcModel();
    await new Trainer(before, new SmallBatches(), { ...options(folder, 3), accumulate, modifiers: [fakeRounding(before)] }).run();
    const after = new SmallCtcModel(16, 55); // other weights, which the checkpoint replaces
    const batches = new SmallBatches();
    const continued = new Trainer(after, batches, { ...options(folder, 6), accumulate, modifiers: [fakeRounding(after)] });
    t.true(continued.resume());
    t.is(continued.steps, 3);
    await continued.run();
    t.deepEqual(bits(after, continued), bits(straight, whole));
    t.is(batches.asked[0], accumulate === 1 ? "0.3" : "2.1");
    const withoutSpeed = (line: Record<string, unknown>): object => ({ ...line, audioPerSecond: 0 });
    t.deepEqual(lines(folder).map(withoutSpeed), lines(straightFolder).map(withoutSpeed));
  }
});

test.serial("the newest checkpoints are kept and metrics after them forgotten", async (t) => {
  const folder = temporaryFolder();
  const checkpoints = { everySteps: 2, keep: 2 };
  await new Trainer(new SmallCtcModel(), new SmallBatches(), { ...options(folder, 9), checkpoints }).run();
  t.deepEqual(readdirSync(join(folder, "checkpoints")).sort(), ["step-00000008.safetensors", "step-00000009.safetensors"]);
  rmSync(join(folder, "checkpoints", "step-00000009.safetensors"));
  writeFileSync(join(folder, "metrics.jsonl"), `${readFileSync(join(folder, "metrics.jsonl"), "utf8")}{"step":1`); // cut off
  const again = new Trainer(new SmallCtcModel(), new SmallBatches(), options(folder, 10));
  t.true(again.resume());
  await again.run();
  t.deepEqual(
    lines(folder).map((line) => line["step"]),
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  );
});

test.serial("an abort signal or SIGTERM saves, then stops", async (t) => {
  const folder = temporaryFolder();
  const abort = new AbortController();
  const stopAt = (step: number, stop: () => void): TrainerOptions => ({
    ...options(folder, 100),
    onStep: (metrics) => metrics.step === step && stop(),
  });
  const first = await new Trainer(
    new SmallCtcModel(),
    new SmallBatches(),
    stopAt(4, () => abort.abort()),
  ).run({ signal: abort.signal });
  t.deepEqual({ ...first, checkpoint: "" }, { step: 4, completed: false, checkpoint: "" });
  t.true(first.checkpoint.endsWith("step-00000004.safetensors"));
  const listeners = process.listenerCount("SIGTERM");
  const second = new Trainer(
    new SmallCtcModel(),
    new SmallBatches(),
    stopAt(6, () => process.kill(process.pid, "SIGTERM")),
  );
  second.resume();
  const result = await second.run({ handleSignals: true });
  t.false(result.completed);
  t.true(result.step >= 6 && result.step < 100);
  t.is(process.listenerCount("SIGTERM"), listeners);
});

/** Batches whose features are infinite at some steps. */
class SpoiltBatches extends SmallBatches {
  private asks = 0;
  constructor(private readonly spoilt: (ask: number) => boolean) {
    super();
  }
  override batch(epoch: number, index: number): ReturnType<SmallBatches["batch"]> {
    const batch = super.batch(epoch, index);
    if (this.spoilt(this.asks++)) batch.features.write(new Float32Array(batch.features.size).fill(Infinity));
    return batch;
  }
}

test.serial("a step without finite loss is skipped; several in a row end the run", async (t) => {
  const folder = temporaryFolder();
  const model = new SmallCtcModel();
  const trainer = new Trainer(model, new SpoiltBatches((ask) => ask === 2), options(folder, 4));
  await trainer.run();
  t.deepEqual(
    lines(folder).map((line) => line["skipped"]),
    [false, false, true, false],
  );
  t.is(lines(folder)[2]?.["loss"], "NaN");
  t.true(bits(model, trainer).flat().every(Number.isFinite));

  const diverging = new Trainer(new SmallCtcModel(), new SpoiltBatches((ask) => ask >= 2), options(temporaryFolder(), 50));
  await t.throwsAsync(diverging.run(), { instanceOf: UsmLiteError, code: "TRAINING_DIVERGED", message: /5 steps in a row, up to step 7/ });
  const short = new Trainer(new SmallCtcModel(), new SpoiltBatches((ask) => ask >= 1), options(temporaryFolder(), 3));
  await t.throwsAsync(short.run(), { instanceOf: UsmLiteError, code: "TRAINING_DIVERGED", message: /2 steps in a row, up to step 3/ });
});

test.serial("validation sees the averaged weights", async (t) => {
  const folder = temporaryFolder();
  const model = new SmallCtcModel();
  const seen: number[][] = [];
  const trainer: Trainer = new Trainer(model, new SmallBatches(), {
    ...options(folder, 6),
    validation: {
      everySteps: 3,
      run: async (step) => {
        await Promise.resolve();
        seen.push([...(model.parameters().get("output.weight") as Tensor).toArray()]);
        return { step: step / 3 };
      },
    },
  });
  await trainer.run();
  t.deepEqual(
    lines(folder).filter((line) => "validation" in line),
    [
      { step: 3, validation: { step: 1 } },
      { step: 6, validation: { step: 2 } },
    ],
  );
  t.deepEqual(seen[1], [...(trainer.weights().get("output.weight") as Tensor).toArray()]);
  t.notDeepEqual(seen[1], [...(model.parameters().get("output.weight") as Tensor).toArray()]);
  t.is(model.changes, 4);
});

test.serial("steps leave no tensors behind", async (t) => {
  const used: number[] = [];
  const trainer = new Trainer(new SmallCtcModel(), new SmallBatches(), {
    ...options(temporaryFolder(), 12),
    accumulate: 2,
    onStep: () => used.push(memoryStatistics().bytesInUse),
  });
  await trainer.run();
  // Less is left where what earlier tests made is collected meanwhile.
  t.true((used[11] as number) <= (used[1] as number), `${used[1]} to ${used[11]} bytes`);
});

test.serial("a run is not continued with other speech, and one that does not say what it heard with any", async (t) => {
  const train = (data: Pick<TrainerOptions, "manifests">, folder = temporaryFolder()) => {
    const trainer = new Trainer(new SmallCtcModel(), new SmallBatches(), { ...options(folder, 1), ...data });
    return { trainer, folder };
  };
  const [a, b] = ["a".repeat(64), "b".repeat(64)];
  const one = { manifests: [{ path: "one.jsonl", sha256: a }] };
  const known = train(one);
  await known.trainer.run();
  const resume = (data: Pick<TrainerOptions, "manifests">, folder: string): boolean => train(data, folder).trainer.resume();
  t.true(resume(one, known.folder));
  t.true(resume({ manifests: [{ path: "moved.jsonl", sha256: a }] }, known.folder), "what it holds counts, not where it lies");
  t.true(resume({}, known.folder));
  const refused = (manifests: NonNullable<TrainerOptions["manifests"]>, message: RegExp): void =>
    void t.throws(() => resume({ manifests }, known.folder), { code: "BAD_CHECKPOINT", message });
  refused(
    [{ path: "one.jsonl", sha256: b }],
    /step-00000001\.safetensors was trained on the speech of one\.jsonl, which holds something else by now; put back what it held to continue this run, or begin another in a new folder$/,
  );
  refused([{ path: "two.jsonl", sha256: b }], /of one\.jsonl, and now there is two\.jsonl, which differs;/);
  refused([...one.manifests, { path: "two.jsonl", sha256: b }], /of one\.jsonl, and now there are one\.jsonl, two\.jsonl;/);
  const unknown = train({});
  await unknown.trainer.run();
  t.true(resume(one, unknown.folder));
});

test.serial("a checkpoint of another run is refused", async (t) => {
  const folder = temporaryFolder();
  const { checkpoint } = await new Trainer(new SmallCtcModel(), new SmallBatches(), options(folder, 1)).run();
  const resume = (model: SmallCtcModel, more: Partial<TrainerOptions> = {}): boolean =>
    new Trainer(model, new SmallBatches(), { ...options(folder, 2), ...more }).resume();
  t.throws(() => resume(new SmallCtcModel(32)), {
    code: "BAD_CHECKPOINT",
    message: /"parameter.input.weight" has shape \(16, 8\) but this run needs \(32, 8\)/,
  });
  t.throws(() => resume(new SmallCtcModel(), { seed: 9 }), { code: "BAD_CHECKPOINT", message: /seed 1; this run has seed 9/ });
  const longer = await new Trainer(new SmallCtcModel(), new SmallBatches(), options(temporaryFolder(), 2)).run();
  t.throws(() => new Trainer(new SmallCtcModel(), new SmallBatches(), options(folder, 1)).resume(longer.checkpoint), {
    code: "BAD_CHECKPOINT",
    message: /has had 2 steps; this run ends after 1: give it more/,
  });
  const larger = new SmallCtcModel();
  larger.weights.set("extra", keep(Tensor.zeros([1])));
  t.throws(() => resume(larger), { code: "BAD_CHECKPOINT", message: /no tensor "parameter.extra"/ });
  const bytes = readFileSync(checkpoint);
  writeFileSync(checkpoint, bytes.subarray(0, bytes.length - 8));
  t.throws(() => resume(new SmallCtcModel()), { code: "BAD_CHECKPOINT" });
  t.false(new Trainer(new SmallCtcModel(), new SmallBatches(), options(temporaryFolder(), 2)).resume());
  t.throws(() => new Trainer(new SmallCtcModel(), new SmallBatches(), options(folder, 0)), { code: "INVALID_ARGUMENT" });
});
