/** Recordings that are given up in the middle of a pass which takes long: nobody else has to pay for it. */
import { join } from "node:path";
import { mock } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { loadModel, Recognizer, Transcriber } from "../lib/index.js";
import { Dispatcher } from "../lib/serve/engine/dispatcher.js";
import type { Engine, RunHandlers } from "../lib/serve/engine/engine.js";
import type { Window, WindowDecoder } from "../lib/transcribe/window_decoding.js";
import { writeWhisper } from "./sequence_models.js";
import { form, metric, post, startServer, until, wav } from "./serving.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("serve-aborts");
test.after.always(folder.clean);
const whisper = writeWhisper(join(folder.path, "whisper"));
/** Writes so many tokens about a window that nobody waits for the end of them. */
const endless = writeWhisper(join(folder.path, "endless"), 1, 60_000);
/** Shorter than anything that is written about. */
const instant = tones(0.05, 1);

test("windows that are given up are not written on, and the others are written as if they had not been there", (t) => {
  for (const options of [{}, { language: "en", beamWidth: 3 }]) {
    const decoder = new Recognizer(loadModel(whisper), options).windows as WindowDecoder;
    const windows = [1, 2, 3].map((seed): Window => ({ samples: tones(0.9, seed) }));
    const alone = windows.map((window) => decoder.forward([window])[0]);
    for (const answers of [0, 1, 3, 9]) {
      let asked = 0;
      const isAborted = (): boolean => ++asked > answers;
      const outcomes = decoder.outcomes(windows.map((window, index) => (index === 1 ? { ...window, isAborted } : window)));
      t.deepEqual([outcomes[0], outcomes[2]], [alone[0], alone[2]]);
      t.like(outcomes[1], { code: "ABORTED" });
      t.is(asked, answers + 1, "it is not even asked again");
    }
    const patient = windows.map((window) => ({ ...window, isAborted: () => false }));
    t.deepEqual(decoder.forward(patient), alone);
  }
});

test.serial("a client that leaves ends what is written for it, not the engine", async (t) => {
  await using server = await startServer(endless, { language: "en" });
  for (const audio of [tones(1, 1), tones(1, 2)]) {
    const client = new AbortController();
    const left = post(server, form(wav(audio)), { signal: client.signal });
    await until(() => server.dispatcher.active === 1);
    await sleep(500); // the pass has most likely begun; if not, it never does
    client.abort();
    await t.throwsAsync(left, { any: true });
    t.is((await post(server, form(wav(instant)))).status, 200);
    await until(() => server.dispatcher.active === 0);
  }
  t.is(await metric(server, "engine_restarts_total"), 0);
});

test.serial("requests that come in the middle of a pass are attended to when it was given up, in order", async (t) => {
  await using transcriber = await Transcriber.load({ model: endless });
  const controller = new AbortController();
  const long = transcriber.transcribe(tones(1, 1), { signal: controller.signal });
  await sleep(500);
  const early = transcriber.transcribe(instant);
  const never = new AbortController();
  const givenUp = transcriber.transcribe(tones(1, 2), { signal: never.signal });
  never.abort();
  controller.abort();
  await t.throwsAsync(long, { code: "ABORTED" });
  await t.throwsAsync(givenUp, { code: "ABORTED" });
  t.is((await early).text, "");
});

test.serial("a worker that does not leave a recording hangs, but not before any pass would be over", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    let kills = 0;
    const handlers: RunHandlers[] = [];
    const sent: string[] = [];
    const engine = {
      readyWorkers: 1,
      hasRoom: () => true,
      run: (of: RunHandlers) => {
        handlers.push(of);
        return { send: ({ kind }: { kind: string }) => sent.push(kind), release: () => undefined, killEngine: () => kills++ };
      },
    };
    const dispatcher = new Dispatcher(engine as unknown as Engine, { maximumBatch: 8, maximumQueue: 8, timeoutMs: 1000 });
    const submit = () => dispatcher.submit({ client: "ann", cost: 1, audio: "a.wav", options: {} });
    const late = submit();
    mock.timers.tick(1000);
    await t.throwsAsync(late, { code: "recognition_timeout" });
    t.deepEqual(sent, ["transcribe", "abort"]);
    mock.timers.tick(200_000);
    t.deepEqual([kills, dispatcher.active], [0, 1]);
    handlers[0]?.onAnswer({ kind: "failed", id: 0, code: "ABORTED", message: "the transcription was aborted" });
    t.is(dispatcher.active, 0);
    mock.timers.tick(1_000_000);
    t.is(kills, 0);
    const lost = submit();
    mock.timers.tick(1000);
    await t.throwsAsync(lost, { code: "recognition_timeout" });
    mock.timers.tick(1_000_000);
    t.is(kills, 1);
  } finally {
    mock.timers.reset();
  }
});
