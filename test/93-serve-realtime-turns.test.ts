import test from "ava";
import { defaultTurnDetection, TurnDetector } from "../lib/serve/realtime/turn_detector.js";
import type { Server } from "../lib/serve/server.js";
import { loadModel, Recognizer } from "../lib/index.js";
import { maximumTurnSeconds } from "../lib/serve/realtime/realtime_session.js";
import { sine } from "./audio_signals.js";
import { Connection, pcm16 } from "./realtime_connection.js";
import { asDecoded, servingFolder, startServer } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-realtime-turns");
let server: Server;
test.before(async () => {
  server = await startServer(folder.model, { maximumStreams: 100 });
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});
const completed = "conversation.item.input_audio_transcription.completed";
const pcm = (rate: number) => ({ type: "audio/pcm", rate });

/** Loud parts in quiet noise: [seconds of silence, seconds of speech, ...]. */
function conversation(...seconds: number[]): Float32Array {
  const parts = seconds.map((length, index) => {
    const noise = tones(length, 1).map((value) => 0.002 * value);
    return index % 2 === 0
      ? noise
      : tones(length, 1 + index).map((value, i) => 0.5 * Math.sign(value) * Math.abs(value) ** 0.3 + (noise[i] as number));
  });
  return Float32Array.from(parts.flatMap((part) => [...part]));
}

test("turns are found by their energy, whatever the messages they come in", (t) => {
  const audio = conversation(1, 1.5, 1, 2, 0.3, 1, 1);
  const expected = [
    ["started", 1],
    ["stopped", 2.5],
    ["started", 3.5],
    ["stopped", 6.8],
  ] as const;
  const results = [];
  for (const block of [7, 320, 4800, audio.length]) {
    const detector = new TurnDetector(defaultTurnDetection);
    const events = [];
    for (let begin = 0; begin < audio.length; begin += block) events.push(...detector.push(audio.subarray(begin, begin + block)));
    t.deepEqual(
      events.map(({ kind }) => kind),
      expected.map(([kind]) => kind),
    );
    events.forEach(({ speechSample }, index) =>
      t.true(Math.abs(speechSample / 16000 - (expected[index]?.[1] as number)) < 0.1, `${speechSample / 16000}`),
    );
    results.push(events);
  }
  for (const events of results) t.deepEqual(events, results[0]);
  const steady = new TurnDetector(defaultTurnDetection);
  t.deepEqual(steady.push(new Float32Array(80_000)), []);
  t.deepEqual(steady.push(sine(50, 16000, 80_000, 0.0005)), [], "a faint hum is no speech");
});

test("server-side turn detection cuts a conversation into turns", async (t) => {
  const connection = new Connection(server);
  await connection.configure({
    format: pcm(16000),
    turn_detection: { type: "server_vad", silence_duration_ms: 400, prefix_padding_ms: 200 },
  });
  connection.append(pcm16(conversation(1, 1.5, 1, 2, 1)), 3200);
  await connection.next(completed, 2);
  const types = connection.events.map(({ type }) => type).filter((type) => type.startsWith("input_audio_buffer"));
  const turn = ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed"];
  t.deepEqual(types, [...turn, ...turn]);
  const [first, second] = connection.of("input_audio_buffer.speech_started");
  t.true(Math.abs((first?.["audio_start_ms"] as number) - 800) < 120, String(first?.["audio_start_ms"]));
  t.not(first?.["item_id"], second?.["item_id"]);
  t.true(Math.abs((connection.of("input_audio_buffer.speech_stopped")[0]?.["audio_end_ms"] as number) - 2900) < 150);
  for (const done of connection.of(completed)) t.is(typeof done["transcript"], "string");
  connection.socket.close();
});

const recognizer = new Recognizer(loadModel(folder.model));
const committed = "input_audio_buffer.committed";
const commit = { type: "input_audio_buffer.commit" };

test("nothing of a cleared buffer is heard, not even half a sample", async (t) => {
  const connection = new Connection(server);
  await connection.configure({ format: pcm(16000), turn_detection: null });
  const samples = tones(1.5, 3);
  connection.socket.send(pcm16(tones(0.2, 4)).subarray(1));
  connection.send({ type: "input_audio_buffer.clear" });
  connection.append(pcm16(samples));
  connection.send(commit);
  t.is((await connection.next(completed))["transcript"], recognizer.transcribe(asDecoded(samples)).text);
  connection.socket.close();
});

test("a turn of the greatest length is committed once: by its client, or when more comes", async (t) => {
  const connection = new Connection(server);
  await connection.configure({ format: pcm(16000), turn_detection: null });
  const [longest, more] = [pcm16(tones(maximumTurnSeconds, 5)), tones(1, 6)];
  connection.socket.send(longest);
  connection.send(commit);
  await connection.next(completed);
  connection.socket.send(longest);
  connection.send({ type: "session.update", session: { type: "transcription" } });
  await connection.next("session.updated", 2);
  t.is(connection.of(committed).length, 1, "a full turn is open until something follows");
  connection.append(pcm16(more));
  await connection.next(committed, 2);
  connection.send(commit);
  await connection.next(completed, 3);
  const items = connection.of(committed).map(({ item_id: id }) => id);
  t.is(new Set(items).size, 3);
  const answerOf = (item: unknown) => connection.of(completed).find(({ item_id: id }) => id === item);
  t.deepEqual(
    items.map((item) => (answerOf(item)?.["usage"] as { seconds: number }).seconds),
    [maximumTurnSeconds, maximumTurnSeconds, 1],
  );
  t.is(answerOf(items[2])?.["transcript"], recognizer.transcribe(asDecoded(more)).text);
  t.deepEqual(connection.of("error"), []);
  connection.socket.close();
});
