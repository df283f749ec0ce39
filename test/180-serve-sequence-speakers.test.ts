/** Whisper with adapters behind the server: learned, packed, served, and heard as the recognizer hears. */
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { WebSocket } from "ws";
import { AdapterBase, adaptSpeaker, compressModel, loadModel, readManifest, Recognizer, writeAdapter } from "../lib/index.js";
import type { Server } from "../lib/serve/server.js";
import { randomAdapter } from "./adapters.js";
import { roundToNearest } from "./recipes.js";
import { writeWhisper } from "./sequence_models.js";
import { asDecoded, form, post, startServer, wav } from "./serving.js";
import { editJson, temporaryFolder, tones, writeWav } from "./tiny_model.js";

const folder = temporaryFolder("serve-sequence-speakers");
const path = (...names: string[]): string => join(folder.path, ...names);
const store = path("adapters");
const packed = path("packed");
const samples = [tones(0.9, 3), tones(2.3, 2)] as const; // a window is one second
let server: Server;
test.before(async () => {
  await compressModel({ model: writeWhisper(path("whisper")), recipe: roundToNearest("nf4/g64"), manifest: undefined, out: packed });
  mkdirSync(store);
  server = await startServer(packed, { adapters: store, language: "en", maximumBatch: 8, maximumWaitMs: 50 });
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});

type Fields = readonly (readonly [string, string])[];
const ask = (clip: Float32Array, speaker: string | undefined, fields: Fields = []): Promise<Response> =>
  post(server, form(wav(clip), [["model", "tiny"], ...(speaker === undefined ? [] : [["speaker", speaker] as const]), ...fields]));

interface Answer {
  readonly text: string;
  readonly logprobs: readonly { readonly logprob: number }[];
}

/** The text of a small random model says little; what it thinks of each token differs with whatever it is heard with. */
const opinion = async (clip: Float32Array, speaker: string | undefined): Promise<unknown> => {
  const { text, logprobs } = (await (await ask(clip, speaker, [["include[]", "logprobs"]])).json()) as Answer;
  return [text, ...logprobs.map(({ logprob }) => logprob)];
};

/** What is heard without a server. */
function heard(clip: Float32Array, speaker: string | undefined) {
  const adapter = speaker === undefined ? {} : { adapter: join(store, speaker) };
  return new Recognizer(loadModel(packed), { language: "en", ...adapter }).transcribe(asDecoded(clip));
}

const expectedOpinion = (clip: Float32Array, speaker: string | undefined): unknown => {
  const { text, tokens } = heard(clip, speaker);
  return [text, ...tokens.map(({ confidence }) => Math.log(confidence))];
};

async function learn(speaker: string): Promise<void> {
  const manifest = path("manifest.jsonl");
  const lines = [0, 1].map((index) => ({
    audio_filepath: writeWav(path(`${index}.wav`), tones(0.6, index)),
    duration: 0.6,
    text: ["a b c d e f", "b a d c f e"][index % 2],
  }));
  writeFileSync(manifest, lines.map((line) => JSON.stringify(line)).join("\n"));
  const model = loadModel(packed);
  const settings = { rank: 1, epochs: 1, learningRate: 0.1, dropout: 0, batchSeconds: 4, targets: ["*.decoder.*"], language: "en" };
  const { adapter, report } = await adaptSpeaker(model, readManifest(manifest), settings);
  if (report.kept !== "speaker") throw new Error("nothing was learned");
  writeAdapter(join(store, speaker), adapter, new AdapterBase(model), { dropout: 0, training: {} });
  adapter.dispose();
}

function invent(speaker: string, seed: number): void {
  const base = new AdapterBase(loadModel(packed));
  using adapter = randomAdapter(base, 3, seed);
  writeAdapter(join(store, speaker), adapter, base, { dropout: 0, training: {} });
}

test.serial("a learned adapter, another, and none share passes, and everyone gets their own text", async (t) => {
  await learn("ann");
  invent("bob", 2);
  const who = ["ann", undefined, "bob", "ann", "bob", undefined] as const;
  const wanted = who.flatMap((speaker) => samples.map((clip) => [clip, speaker] as const));
  const answers = await Promise.all(wanted.map(([clip, speaker]) => opinion(clip, speaker)));
  const expected = new Map(["ann", undefined, "bob"].map((speaker) => [speaker, samples.map((clip) => expectedOpinion(clip, speaker))]));
  t.is(new Set([...expected.values()].flat().map(String)).size, 6, "adapters make a difference here");
  t.deepEqual(
    answers,
    wanted.map(([clip, speaker]) => expected.get(speaker)?.[samples.indexOf(clip)]),
  );
});

test.serial("every form of answer is heard with the adapter", async (t) => {
  const [clip, long] = samples;
  const expected = heard(long, "ann");
  const verbose = await ask(long, "ann", [
    ["response_format", "verbose_json"],
    ["timestamp_granularities[]", "word"],
    ["language", "en"],
  ]);
  const { text, words } = (await verbose.json()) as { text: string; words: { word: string }[] };
  t.deepEqual([text, words.length], [expected.text, expected.words.length]);
  const events = (await (await ask(long, "ann", [["stream", "true"]])).text()).trim().split("\n\n");
  t.like(JSON.parse((events.at(-1) as string).slice("data: ".length)), { type: "transcript.text.done", text: expected.text });
  t.regex(await (await ask(clip, "ann", [["response_format", "srt"]])).text(), /-->/);

  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/realtime?intent=transcription`);
  const answer = new Promise<{ type: string; transcript?: string }>((resolve) => {
    socket.on("message", (data: Buffer) => {
      const event = JSON.parse(data.toString("utf8")) as { type: string; transcript?: string };
      if (/^error$|\.(failed|completed)$/.test(event.type)) resolve(event);
    });
  });
  await once(socket, "open");
  const input = { format: { type: "audio/pcm", rate: 16000 }, transcription: { speaker: "ann" }, turn_detection: null };
  socket.send(JSON.stringify({ type: "session.update", session: { audio: { input } } }));
  socket.send(wav(long).subarray(44));
  socket.send(JSON.stringify({ type: "input_audio_buffer.commit" }));
  t.like(await answer, { transcript: expected.text });
  socket.close();
});

test.serial("adapters are exchanged while it serves, and those that do not fit are told", async (t) => {
  const [clip] = samples;
  invent("ann", 7);
  t.deepEqual(await opinion(clip, "ann"), expectedOpinion(clip, "ann"));
  invent("foreign", 3);
  editJson(join(store, "foreign", "adapter_config.json"), (json) =>
    Object.assign(json["usm_lite"] as object, { base_checksum: `sha256:${"1".repeat(64)}` }),
  );
  const cases: [string, number, string][] = [
    ["nobody", 404, "speaker_not_found"],
    ["../ann", 400, "invalid_value"],
    ["foreign", 500, "adapter_unusable"],
  ];
  for (const [speaker, status, code] of cases) {
    const refused = await ask(clip, speaker);
    t.deepEqual([refused.status, ((await refused.json()) as { error: { code: string } }).error.code], [status, code], speaker);
  }
  t.deepEqual(await opinion(clip, undefined), expectedOpinion(clip, undefined), "the server goes on");
});
