/** What clients are told of tokens speaks of the model that heard them, although another one was loaded meanwhile. */
import { join } from "node:path";
import test from "ava";
import { loadModel, Recognizer } from "../lib/index.js";
import type { Server } from "../lib/serve/server.js";
import { Connection, pcm16 } from "./realtime_connection.js";
import { asDecoded, form, post, servingFolder, startServer, until, wav } from "./serving.js";
import { editJson, tones } from "./tiny_model.js";

const folder = servingFolder("serve-vocabulary");
test.after.always(folder.clean);

interface Answer {
  readonly text: string;
  readonly logprobs: readonly { readonly token: string }[];
}

const said = ({ logprobs }: Answer): string =>
  logprobs
    .map(({ token }) => token)
    .join("")
    .trim();
const completed = "conversation.item.input_audio_transcription.completed";
const samples = tones(2, 1);

/** The same weights with letters that stand for others. */
function exchangeLetters(): void {
  editJson(join(folder.model, "tokenizer.json"), (json) => {
    const { vocab } = json["model"] as unknown as { vocab: [string, number][] };
    for (const piece of vocab)
      piece[0] = piece[0].replace(/[A-Z]/g, (letter) => (letter === "Z" ? "A" : String.fromCharCode(letter.charCodeAt(0) + 1)));
  });
}

const fields = [
  ["model", "tiny"],
  ["include[]", "logprobs"],
] as const;

/** Holds the engine while something is submitted to it, so that the reload comes before its answer. */
async function hold(server: Server, recordings: number): Promise<number> {
  const pid = server.enginePid as number;
  await until(() => server.dispatcher.active === recordings);
  process.kill(pid, "SIGSTOP");
  return pid;
}

test("recordings that began with the old model are told in its tokens", async (t) => {
  await using server = await startServer(folder.model, { decoder: "greedy" });
  const before = new Recognizer(loadModel(folder.model), { decoder: "greedy" }).transcribe(asDecoded(samples)).text;
  const live = new Connection(server);
  await live.configure({ format: { type: "audio/pcm", rate: 16000 }, turn_detection: null }, ["item.input_audio_transcription.logprobs"]);
  live.append(pcm16(samples));
  const old = await hold(server, 1);
  const answer = post(server, form(wav(samples), fields));
  const streamed = post(server, form(wav(samples), [...fields, ["stream", "true"]]));
  await until(() => server.dispatcher.active === 3);
  exchangeLetters();
  await server.reload();
  process.kill(old, "SIGCONT");
  live.send({ type: "input_audio_buffer.commit" });
  const done = await live.next(completed);
  t.is(done["transcript"], before);
  t.is(said(done as unknown as Answer), before);
  t.is(said((await (await answer).json()) as Answer), before);
  const events = (await (await streamed).text()).trim().split("\n\n");
  t.is(said(JSON.parse((events.at(-1) as string).slice("data: ".length)) as Answer), before);
  const after = (await (await post(server, form(wav(samples), fields))).json()) as Answer;
  t.not(after.text, before);
  t.is(said(after), after.text);
  live.socket.close();
});
