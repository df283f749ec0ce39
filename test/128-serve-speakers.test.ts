import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { WebSocket } from "ws";
import { AdapterBase, loadModel, Recognizer, writeAdapter } from "../lib/index.js";
import type { Server } from "../lib/serve/server.js";
import { randomAdapter } from "./adapters.js";
import { asDecoded, form, post, servingFolder, startServer, wav } from "./serving.js";
import { editJson, tones } from "./tiny_model.js";

const folder = servingFolder("serve-speakers");
const store = join(folder.path, "adapters");
const model = loadModel(folder.model);
const base = new AdapterBase(model);
const recognizer = new Recognizer(model);
const samples = tones(1.5, 1);
const about = { dropout: 0, training: {} };
const write = (speaker: string, seed: number): string => {
  using adapter = randomAdapter(base, 3, seed);
  writeAdapter(join(store, speaker), adapter, base, about);
  return recognizer.transcribeBatch([asDecoded(samples)], undefined, adapter)[0]?.text as string;
};
let server: Server;
test.before(async () => {
  mkdirSync(store);
  server = await startServer(folder.model, { adapters: store, maximumBatch: 32, maximumWaitMs: 50 });
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});

const ask = async (speaker?: string): Promise<string> => {
  const response = await post(
    server,
    form(wav(samples), [["model", "tiny"], ...(speaker === undefined ? [] : [["speaker", speaker] as const])]),
  );
  return ((await response.json()) as { text: string }).text;
};
const refusal = async (speaker: string): Promise<unknown[]> => {
  const response = await post(
    server,
    form(wav(samples), [
      ["model", "tiny"],
      ["speaker", speaker],
    ]),
  );
  const { error } = (await response.json()) as { error: { code: string; param: string; message: string } };
  return [response.status, error.code, error.param, error.message];
};

test.serial("requests of many speakers at once: each gets its own speaker's text, and the others what they always got", async (t) => {
  const texts = Array.from({ length: 10 }, (_, index) => write(`speaker-${index}`, index + 1));
  const plain = recognizer.transcribe(asDecoded(samples)).text;
  t.true(new Set([...texts, plain]).size > 5, "adapters make a difference here");
  const order = Array.from({ length: 44 }, (_, index) => (index * 7) % 11);
  const answers = await Promise.all(order.map((index) => ask(index === 10 ? undefined : `speaker-${index}`)));
  t.deepEqual(
    answers,
    order.map((index) => texts[index] ?? plain),
  );
});

test.serial("an adapter that is exchanged is used from the next request on", async (t) => {
  const first = write("changing", 21);
  t.is(await ask("changing"), first);
  const second = write("changing", 22);
  t.not(second, first);
  t.is(await ask("changing"), second);
});

test.serial("what is no speaker is refused, and no path is told", async (t) => {
  for (const name of ["../speaker-1", "..", "/etc/passwd", "a/b", ".hidden", "", "a".repeat(200)]) {
    const [status, code, param, message] = await refusal(name);
    t.deepEqual([status, code, param], [400, "invalid_value", "speaker"], name);
    t.regex(String(message), /no name of a speaker/);
  }
  t.deepEqual((await refusal("nobody")).slice(0, 3), [404, "speaker_not_found", "speaker"]);
  write("foreign", 1);
  editJson(join(store, "foreign", "adapter_config.json"), (json) =>
    Object.assign(json["usm_lite"] as object, { base_checksum: `sha256:${"1".repeat(64)}` }),
  );
  write("broken", 1);
  writeFileSync(join(store, "broken", "adapter_model.safetensors"), "broken");
  for (const name of ["foreign", "broken"]) {
    const [status, code, , message] = await refusal(name);
    t.deepEqual([status, code], [500, "adapter_unusable"]);
    t.false(String(message).includes(folder.path));
  }
  t.is(await ask(), recognizer.transcribe(asDecoded(samples)).text, "the server goes on");
});

test.serial("a realtime session speaks for one speaker at a time", async (t) => {
  const text = write("live", 31);
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/realtime?intent=transcription`);
  const events: Record<string, unknown>[] = [];
  const waiting: ((event: Record<string, unknown>) => void)[] = [];
  socket.on("message", (data: Buffer) => {
    const event = JSON.parse(data.toString("utf8")) as Record<string, unknown>;
    const wake = waiting.shift();
    if (wake) wake(event);
    else events.push(event);
  });
  const next = async (type: RegExp): Promise<Record<string, unknown>> => {
    for (;;) {
      const event = events.shift() ?? (await new Promise<Record<string, unknown>>((resolve) => waiting.push(resolve)));
      if (type.test(String(event["type"]))) return event;
    }
  };
  const say = async (speaker: string | null): Promise<Record<string, unknown>> => {
    const transcription = { speaker };
    socket.send(
      JSON.stringify({
        type: "session.update",
        session: { audio: { input: { format: { type: "audio/pcm", rate: 16_000 }, transcription, turn_detection: null } } },
      }),
    );
    const updated = await next(/^session\.updated$|^error$/);
    if (updated["type"] === "error") return updated;
    socket.send(JSON.stringify({ type: "input_audio_buffer.append", audio: wav(samples).subarray(44).toString("base64") }));
    socket.send(JSON.stringify({ type: "input_audio_buffer.commit" }));
    return next(/transcription\.(completed|failed)$/);
  };
  await next(/^session\.created$/);
  t.is((await say("live"))["transcript"], text);
  t.is((await say(null))["transcript"], recognizer.transcribe(asDecoded(samples)).text);
  t.like(await say("nobody"), { error: { code: "speaker_not_found" } } as never);
  t.like(await say("../live"), { type: "error", error: { code: "invalid_value" } } as never);
  socket.close();
});
