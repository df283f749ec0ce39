/** What HTTP clients offer and send that has nothing to do with speech. */
import { connect } from "node:net";
import test from "ava";
import { Server } from "../lib/serve/server.js";
import { form, post, readAll, servingFolder, startServer, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-http");
let server: Server;
test.before(async () => {
  server = await startServer(folder.model);
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});

/** All that comes back for bytes that are sent as they are, in two pieces. */
async function answerTo(head: string, body: Uint8Array = new Uint8Array(0)): Promise<string> {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  const answer = readAll(socket);
  const bytes = Buffer.concat([Buffer.from(head), body]);
  socket.write(bytes.subarray(0, head.length + 10));
  setImmediate(() => socket.write(bytes.subarray(head.length + 10)));
  return answer;
}

const offersHttp2 = "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";

test("a protocol that the server does not speak is offered in vain, and the request is answered", async (t) => {
  const health = await answerTo(`GET /health/live HTTP/1.1\r\nHost: x\r\n${offersHttp2}\r\n`);
  t.regex(health, /^HTTP\/1\.1 200 OK\r\n[^]*"live"/);
  const audio = wav(tones(1, 1));
  const part = (disposition: string, content: Uint8Array | string): Buffer =>
    Buffer.concat([
      Buffer.from(`--b\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n`),
      Buffer.from(content),
      Buffer.from("\r\n"),
    ]);
  const body = Buffer.concat([part('name="model"', "tiny"), part('name="file"; filename="a.wav"', audio), Buffer.from("--b--\r\n")]);
  const head = `Content-Type: multipart/form-data; boundary=b\r\nContent-Length: ${body.length}\r\n`;
  const answer = await answerTo(`POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n${offersHttp2}${head}\r\n`, body);
  t.regex(answer, /^HTTP\/1\.1 200 OK\r\n[^]*"text":/);
  const webSocket = "Connection: Upgrade, close\r\nUpgrade: websocket\r\n";
  t.regex(await answerTo(`GET /v1/models HTTP/1.1\r\nHost: x\r\n${webSocket}\r\n`), /^HTTP\/1\.1 404 [^]*no WebSocket at/);
});

test("answers that refuse a request have its id, too", async (t) => {
  await using guarded = await startServer(folder.model, { apiKeys: [{ name: "a", key: "0123456789abcdef" }] });
  const refused = await fetch(`${guarded.url}/v1/models`, { headers: { "x-request-id": "gateway-1" } });
  t.deepEqual([refused.status, refused.headers.get("x-request-id")], [401, "gateway-1"]);
});

test("addresses that no route is looked for with are answered like others", async (t) => {
  for (const path of ["/v1/models/%zz", `/v1/models/${"x".repeat(300)}`, "/%zz"]) {
    for (const method of ["GET", "POST"]) {
      const answer = await fetch(server.url + path, { method, headers: { "x-request-id": "misspelled" } });
      t.deepEqual([answer.status, answer.headers.get("x-request-id")], [404, "misspelled"], path);
      const { error } = (await answer.json()) as { error: { code: string; message: string } };
      t.is(error.code, "unknown_url");
      t.true(error.message.length < 400);
    }
  }
});

test("a file name is no pattern: where files lie is not told", async (t) => {
  const body = form(undefined);
  body.append("file", new Blob([wav(tones(1, 1)).subarray(0, 1000)]), "$&.$`.wav");
  const answer = await post(server, body);
  t.is(answer.status, 400);
  const { error } = (await answer.json()) as { error: { message: string } };
  t.true(error.message.startsWith("$&.$`.wav: "), error.message);
});

test("times that no timer holds are refused", async (t) => {
  for (const name of ["uploadTimeoutSeconds", "recognitionTimeoutSeconds", "drainTimeoutSeconds", "streamTimeoutSeconds"] as const) {
    for (const value of [3_000_000, NaN, -1]) {
      await t.throwsAsync(Server.start({ model: folder.model, logLevel: "silent", [name]: value }), {
        code: "INVALID_ARGUMENT",
        message: /timeout is (3000000|NaN|-1) s; it must be at least 0 and at most 2000000 s/,
      });
    }
  }
});
