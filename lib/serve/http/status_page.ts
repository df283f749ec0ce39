/** `GET /`: what the server does at the moment, and a place to drop a recording on. One page, no other resources. */
import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";
import type { Service } from "../service.js";

const style = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
#drop { display: block; border: 2px dashed #888; border-radius: 8px; padding: 3rem 1rem; text-align: center; cursor: pointer }
#drop.over { border-color: #06c; background: #eef6ff }
#file { position: absolute; opacity: 0; width: 1px }
#file:focus + #drop { outline: 3px solid #06c }
#transcript { white-space: pre-wrap; min-height: 3rem; padding: 1rem; background: #f4f4f4; border-radius: 8px }
#transcript.error { color: #a00 }
table { border-collapse: collapse } td { padding: .1rem 1.5rem .1rem 0; font-variant-numeric: tabular-nums }
`;

const script = `
const $ = (id) => document.getElementById(id);
const authorization = () => ($("key").value ? { authorization: "Bearer " + $("key").value } : {});

async function refresh() {
  try {
    const status = await (await fetch("status")).json();
    $("state").textContent = status.state;
    $("model").textContent = status.model;
    for (const name of ["workers", "active", "queued", "streams"]) $(name).textContent = status[name];
    $("keyRow").hidden = !status.needsKey;
  } catch {
    $("state").textContent = "not reachable";
  }
}

async function transcribe(file) {
  const shown = $("transcript");
  shown.className = "";
  shown.textContent = "";
  $("took").textContent = "sending " + file.name;
  const body = new FormData();
  body.append("model", $("model").textContent);
  body.append("stream", "true");
  body.append("file", file);
  const begin = performance.now();
  try {
    const response = await fetch("v1/audio/transcriptions", { method: "POST", body, headers: authorization() });
    if (!response.ok) throw new Error((await response.json()).error.message);
    let rest = "";
    for await (const part of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
      const events = (rest + part).split("\\n\\n");
      rest = events.pop();
      for (const event of events) show(JSON.parse(event.slice("data: ".length)));
    }
    $("took").textContent = file.name + ": " + ((performance.now() - begin) / 1000).toFixed(2) + " s";
  } catch (error) {
    $("took").textContent = file.name;
    shown.className = "error";
    shown.textContent = error.message;
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (let next; !(next = await reader.read()).done; ) yield next.value;
}

function show(event) {
  if (event.error) throw new Error(event.error.message);
  if (event.type === "transcript.text.delta") $("transcript").textContent += event.delta;
  else $("transcript").textContent = event.text || "(no words)";
}

$("file").addEventListener("change", (event) => event.target.files[0] && transcribe(event.target.files[0]));
for (const name of ["dragenter", "dragover"]) {
  $("drop").addEventListener(name, (event) => (event.preventDefault(), $("drop").classList.add("over")));
}
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) transcribe(file);
});
refresh();
setInterval(refresh, 2000);
`;

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>usm-lite</title>
<style>${style}</style>
<h1>usm-lite</h1>
<table>
<tr><td>state<td id="state">?
<tr><td>model<td id="model">?
<tr><td>workers<td id="workers">?
<tr><td>recordings under way<td id="active">?
<tr><td>recordings waiting<td id="queued">?
<tr><td>live streams<td id="streams">?
</table>
<h2>Try it</h2>
<p id="keyRow" hidden><label>API key <input id="key" type="password" autocomplete="off"></label></p>
<input id="file" type="file" accept="audio/*,video/*">
<label id="drop" for="file">Drop a recording here, or choose one</label>
<p id="took" role="status"></p>
<p id="transcript" aria-live="polite"></p>
<script>${script}</script>
</html>
`;

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const contentSecurityPolicy = [
  "default-src 'none'",
  `style-src ${hashOf(style)}`,
  `script-src ${hashOf(script)}`,
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export function statusPage(app: FastifyInstance, service: Service): void {
  app.get("/", (_, reply) =>
    reply
      .type("text/html; charset=utf-8")
      .header("content-security-policy", contentSecurityPolicy)
      .header("x-content-type-options", "nosniff")
      .header("cache-control", "no-cache")
      .send(page),
  );
  app.get("/status", () => ({
    state: service.draining ? "draining" : service.readyWorkers > 0 ? "ready" : "no worker is ready",
    model: service.model.name,
    workers: service.readyWorkers,
    active: service.dispatcher.active,
    queued: service.dispatcher.queued,
    streams: service.streams,
    needsKey: service.apiKeys !== undefined,
  }));
}
