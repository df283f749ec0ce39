/** A server around a small model, and ways to treat it badly. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Server } from "../lib/serve/server.js";
import type { ServeOptions } from "../lib/serve/serve_options.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";
import { wavFile } from "./wav_writer.js";

/** A folder with a small model, and options to serve it with. */
export function servingFolder(name: string): { path: string; model: string; clean: () => void } {
  const folder = temporaryFolder(name);
  return { ...folder, model: writeTinyModel(join(folder.path, "model")) };
}

/** One worker, any free port, nothing logged. */
export const startServer = (model: string, options: ServeOptions = {}): Promise<Server> =>
  Server.start({ model, modelName: "tiny", port: 0, workers: 1, threads: 1, logLevel: "silent", ...options });

export const wav = (samples: Float32Array): Buffer => wavFile([samples], { sampleRate: 16000, coding: "s16" });

/** What {@link wav} holds, as a decoder gives it. */
export const asDecoded = (samples: Float32Array): Float32Array => {
  const bytes = wav(samples);
  return Float32Array.from(samples, (_, i) => bytes.readInt16LE(44 + 2 * i) / 32768);
};

/** A form as clients send it; `[name, value]` pairs may repeat a name. */
export function form(audio: Uint8Array | undefined, fields: readonly (readonly [string, string])[] = [["model", "tiny"]]): FormData {
  const data = new FormData();
  if (audio) data.append("file", new Blob([audio as Uint8Array<ArrayBuffer>]), "speech.wav");
  for (const [name, value] of fields) data.append(name, value);
  return data;
}

export const post = (server: Server, body: FormData, init: RequestInit = {}): Promise<Response> =>
  fetch(`${server.url}/v1/audio/transcriptions`, { method: "POST", body, ...init });

/** Resolves when `condition` holds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 150_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`it never came true: ${condition.toString()}`);
    await sleep(5);
  }
}

/** The beginning of an upload whose rest never comes. */
export async function beginUpload(server: { readonly url: string }, headers: readonly string[] = []): Promise<Socket> {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.on("error", () => undefined); // the server may close it
  await once(socket, "connect");
  const head = [
    "POST /v1/audio/transcriptions HTTP/1.1",
    "Host: localhost",
    "Content-Type: multipart/form-data; boundary=b",
    "Content-Length: 100000",
    ...headers,
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF`);
  return socket;
}

/** Everything that comes on a socket until it is closed. */
export async function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8").on("data", (part: string) => (text += part));
  await once(socket, "close");
  return text;
}

/** The value of a metric without labels, or the sum over all labels. */
export async function metric(server: Server, name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(`usmlite_${name} `) || line.startsWith(`usmlite_${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}
