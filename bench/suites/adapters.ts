/**
 * Suite `adapters`: the packed model that ships with 32 recordings in a call, without adapters and with one of another
 * speaker for each; and what adapters in memory take.
 */
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Adapter } from "../../lib/adapt/adapter.js";
import { AdapterBase } from "../../lib/adapt/adapter_base.js";
import { writeAdapter } from "../../lib/adapt/adapter_file.js";
import { selectLayers } from "../../lib/adapt/adaptable_layers.js";
import { adapterDefaults, defaultTargets } from "../../lib/adapt/adapter_settings.js";
import { AdapterStore } from "../../lib/adapt/adapter_store.js";
import { defaultModelFolder } from "../../lib/models/default_model.js";
import { loadModel } from "../../lib/models/model_folder.js";
import { memoryStatistics, setThreadCount, threadCount } from "../../lib/native/runtime.js";
import { RandomStream } from "../../lib/ops/random_stream.js";
import { keep } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { Recognizer } from "../../lib/transcribe/recognizer.js";
import { exampleSpeech } from "../example_speech.js";
import { measureInTurn, median, timed, type Contestant } from "../measure.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const speakers = 32;
const residents = 64;
const listed = 1000;
const { rank } = adapterDefaults;
/** What adapters are for: what they are by default, and as much as can be. */
const kinds = { "of attention": defaultTargets, "of all layers": ["*"] };
const turns = { rounds: 7, millisecondsPerTurn: 300 };

export const adapters: BenchmarkSuite = {
  name: "adapters",
  async run(context: BenchmarkContext): Promise<void> {
    const threadsBefore = threadCount();
    const model = loadModel(defaultModelFolder);
    const base = new AdapterBase(model);
    await speed(context, new Recognizer(model, { decoder: "greedy" }), new Recognizer(model, { decoder: "beam" }), base);
    memory(context, base);
    model.network.dispose();
    setThreadCount(threadsBefore);
  },
};

async function speed(context: BenchmarkContext, greedy: Recognizer, beam: Recognizer, base: AdapterBase): Promise<void> {
  const { utterances, seconds } = await exampleSpeech();
  const recordings = Array.from({ length: speakers }, (_, index) => utterances[index % utterances.length] as Float32Array);
  const audioSeconds = (seconds * speakers) / utterances.length;
  for (const threads of context.threads) {
    setThreadCount(threads);
    for (const [decoder, recognizer] of Object.entries({ greedy, beam })) {
      const contestants: Contestant[] = [
        {
          impl: "usm-lite",
          spec: "int4+2:4",
          note: "no adapters",
          run: (repetitions) => timed(() => recognizer.transcribeBatch(recordings), repetitions),
        },
        ...Object.entries(kinds).map(([kind, targets]): Contestant => {
          const own = recordings.map((_, index) => smallAdapter(base, targets, index));
          return {
            impl: "usm-lite",
            spec: "int4+2:4",
            note: `${speakers} adapters ${kind}, rank ${rank}`,
            run: (repetitions) => timed(() => recognizer.transcribeBatch(recordings, undefined, own), repetitions),
            dispose: () => own.forEach((adapter) => adapter.dispose()),
          };
        }),
      ];
      const timings = await measureInTurn(contestants, turns);
      timings.forEach((timing, index) => {
        const { impl, spec, note = "" } = contestants[index] as Contestant;
        const ratio = (timings[0] as { ms: number }).ms / timing.ms;
        context.record({
          ...{ suite: "adapters", case: `${speakers} speakers, ${decoder}`, impl, spec, device: "cpu", threads, ...timing },
          rtfx: audioSeconds / (timing.ms / 1000),
          note: index === 0 ? note : `${note}: ${ratio.toFixed(2)} of the speed without`,
        });
      });
    }
  }
}

/** A store of many speakers of whom as many as fit are in memory; `ms` is the time to read one. */
function memory(context: BenchmarkContext, base: AdapterBase): void {
  const folder = mkdtempSync(join(tmpdir(), "usm-lite-adapters-"));
  try {
    for (let index = 0; index < listed; index++) {
      const path = join(folder, `speaker-${index}`);
      if (index < residents) {
        using adapter = smallAdapter(base, defaultTargets, index);
        writeAdapter(path, adapter, base, { dropout: 0, training: {} });
      } else symlinkSync(`speaker-${index % residents}`, path); // to the store a speaker like the others
    }
    const store = new AdapterStore(folder, base, residents);
    const names = store.speakers();
    const before = memoryStatistics().bytesInUse;
    const times = names.flatMap((name) => timed(() => store.lease(name).release(), 1));
    context.record({
      ...{
        suite: "adapters",
        case: `${names.length} speakers listed, ${store.resident} resident`,
        impl: "usm-lite",
        spec: "float32",
        device: "cpu",
        threads: 1,
      },
      ...{ ms: median(times), ms_min: Math.min(...times), ms_max: Math.max(...times), runs: times.length },
      weightBytes: memoryStatistics().bytesInUse - before,
      note: `time to read one; ${store.residentBytes} bytes computed`,
    });
    store.dispose();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Numbers of the size that learning leaves. */
function smallAdapter(base: AdapterBase, targets: readonly string[], seed: number): Adapter {
  const random = new RandomStream(seed);
  const values = (shape: readonly [number, number]): Tensor =>
    keep(
      Tensor.from(
        Float32Array.from({ length: shape[0] * shape[1] }, () => 0.02 * (random.uniform() - 0.5)),
        shape,
      ),
    );
  return new Adapter(
    new Map(
      [...selectLayers(base.layers, targets)].map(([name, [out, input]]) => [
        name,
        { down: values([rank, input]), up: values([rank, out]) },
      ]),
    ),
  );
}
