/** What becomes of recordings when the engine, or what holds it up, is lost. */
import test from "ava";
import { loadModel, Recognizer } from "../lib/index.js";
import { Connection, pcm16 } from "./realtime_connection.js";
import { asDecoded, form, metric, post, servingFolder, startServer, until, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-losses");
test.after.always(folder.clean);
const recognizer = new Recognizer(loadModel(folder.model));
const completed = "conversation.item.input_audio_transcription.completed";

test.serial("the engine's end is one loss for a recording, however many workers there are", async (t) => {
  await using server = await startServer(folder.model, { workers: 3 });
  const samples = tones(2, 1);
  const { text } = recognizer.transcribe(asDecoded(samples));
  process.kill(server.enginePid as number, "SIGSTOP"); // so that it ends before it answers
  const answer = post(server, form(wav(samples)));
  await until(() => server.dispatcher.active === 1);
  process.kill(server.enginePid as number, "SIGKILL");
  const response = await answer;
  t.deepEqual([response.status, ((await response.json()) as { text?: string }).text], [200, text]);
  await until(() => server.readyWorkers === 3);
  const live = new Connection(server);
  await live.configure({ format: { type: "audio/pcm", rate: 16000 }, turn_detection: null });
  live.append(pcm16(samples));
  await until(() => server.dispatcher.active === 1);
  process.kill(server.enginePid as number, "SIGKILL");
  live.send({ type: "input_audio_buffer.commit" });
  const end = /transcription\.(completed|failed)$/;
  await until(() => live.events.some(({ type }) => end.test(type)));
  t.like(
    live.events.find(({ type }) => end.test(type)),
    { type: completed, transcript: text },
  );
  t.is(await metric(server, "engine_restarts_total"), 2);
  live.socket.close();
});
