import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { parseAllDocuments } from "yaml";
import { loadModel, Recognizer } from "../lib/index.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { asDecoded, beginUpload, form, servingFolder, until, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-command");
test.after.always(folder.clean);
const main = join(dirname(fileURLToPath(import.meta.url)), "..", "lib", "cli", "main.js");
const samples = tones(1.5, 1);
const expected = new Recognizer(loadModel(folder.model)).transcribe(asDecoded(samples)).text;

/** `usm-lite serve` as it is started in production; ended with the test. */
async function serve(t: ExecutionContext, ...args: string[]) {
  const command = [main, "serve", "--model", folder.model, "--port", "0", "--workers", "1", ...args];
  const child = spawn(process.execPath, command, { env: { ...process.env, USMLITE_THREADS: "1" } });
  t.teardown(() => void child.kill("SIGKILL"));
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const exit = once(child, "exit");
  await until(() => output.stdout.includes("\n") || child.exitCode !== null);
  const url = /at (http:\S+)/.exec(output.stdout)?.[1] ?? t.fail(output.stderr);
  const log = () =>
    output.stderr
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { msg: string; [field: string]: unknown });
  return { child, exit, url, output, log };
}

const post = (url: unknown, audio: Float32Array, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/v1/audio/transcriptions`, { method: "POST", headers, body: form(wav(audio), [["model", "whisper-1"]]) });

test("it serves, reloads on SIGHUP, and on SIGTERM ends after what it accepted", async (t) => {
  const spool = join(folder.path, "spool");
  mkdirSync(spool);
  const { child, exit, url, output, log } = await serve(t, "--spool", spool, "--max-batch", "4");
  t.regex(output.stdout, /^usm-lite serves model at http:\/\/127\.0\.0\.1:\d+\n$/);
  t.like(await (await post(url, samples)).json(), { text: expected });
  child.kill("SIGHUP");
  await until(() => log().some(({ msg }) => msg === "model reloaded"));
  t.like(await (await post(url, samples)).json(), { text: expected });
  const long = tones(90, 2);
  const answer = post(url, long);
  await until(async () => ((await (await fetch(`${url}/status`)).json()) as { active: number }).active === 1);
  child.kill("SIGTERM");
  t.is((await answer).status, 200);
  t.deepEqual(await exit, [0, null]);
  t.deepEqual(readdirSync(spool), [], "no upload is left");
  const requests = log().filter(({ msg, route }) => msg === "request" && route === "/v1/audio/transcriptions");
  t.is(requests.length, 3);
  for (const request of requests) {
    t.like(request, { status: 200, method: "POST", client: "127.0.0.1" });
    t.true(typeof request["reqId"] === "string" && (request["audioSeconds"] as number) > 0 && (request["seconds"] as number) > 0);
  }
  t.false(output.stderr.includes(expected), "what was said is not logged");
});

test("a second signal ends at once, even of another kind", async (t) => {
  const { child, exit, url, log } = await serve(t, "--drain-timeout", "3600", "--upload-timeout", "3600");
  await beginUpload({ url }); // whose rest never comes
  await until(async () => (await (await fetch(`${url}/metrics`)).text()).includes("usmlite_uploads_active 1\n"));
  child.kill("SIGINT");
  await until(() => log().some(({ msg }) => msg === "draining"));
  child.kill("SIGTERM");
  t.deepEqual(await exit, [0, null]);
});

test("transcripts are logged when asked for, and the log can be quiet", async (t) => {
  const open = await serve(t, "--log-transcripts", "--decoder", "greedy", "--trust-proxy", "10.0.0.0/8,loopback");
  await post(open.url, samples, { "x-forwarded-for": "192.0.2.1, 10.0.0.1" });
  await until(() => open.log().some((line) => typeof line["transcript"] === "string"));
  t.like(
    open.log().find(({ msg }) => msg === "request"),
    { client: "192.0.2.1" },
  );
  open.child.kill("SIGINT");
  t.deepEqual(await open.exit, [0, null]);
  const quiet = await serve(t, "--log-level", "error");
  await post(quiet.url, samples);
  quiet.child.kill("SIGTERM");
  t.deepEqual(await quiet.exit, [0, null]);
  t.is(quiet.output.stderr, "");
});

test("what cannot be served is said before anything listens", async (t) => {
  const notKeys = join(folder.path, "keys.json");
  writeFileSync(notKeys, '[{"name": "a", "key": "short"}]');
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  t.teardown(() => void taken.close());
  const { port } = taken.address() as { port: number };
  const model = ["--model", folder.model];
  const cases: [string[], number, RegExp][] = [
    [["--model", join(folder.path, "none")], 1, /none.*\[FILE_NOT_FOUND\]/],
    [[...model, "--port", "70000"], 2, /0 to 65535/],
    [
      [...model, "--port", String(port), "--workers", "1", "--log-level", "silent"],
      2,
      /cannot listen on 127\.0\.0\.1:\d+.*choose another port \[INVALID_ARGUMENT\]/,
    ],
    [[...model, "--workers", "0"], 2, /--workers 0: must be a whole number from 1/],
    [[...model, "--threads", "1000"], 2, /threads is 1000; it must be a whole number from 1 to 256/],
    [[...model, "--workers", "1000000"], 2, /workers is 1000000; it must be a whole number from 1 to 1024/],
    [
      [...model, "--workers", "1", "--log-level", "silent", "--port", "0", "--tls-cert", notKeys, "--tls-key", notKeys],
      1,
      /TLS cannot use .*keys\.json.*in PEM.*\[BAD_CONFIG\]/,
    ],
    [[...model, "--trust-proxy", "balancer"], 2, /trusted proxies balancer: .*such as 10\.0\.0\.0\/8.*\[INVALID_ARGUMENT\]/],
    [
      [...model, "--host", "203.0.113.1", "--port", "0", "--workers", "1", "--log-level", "silent"],
      2,
      /cannot listen on 203\.0\.113\.1:0: .*; the host is an address of this machine, or 0\.0\.0\.0 for all/,
    ],
    [[...model, "--max-per-address", "0"], 2, /--max-per-address 0: must be a whole number from 1/],
    [[...model, "--max-wait-ms", "-1"], 2, /--max-wait-ms -1: must be a number from 0/],
    [[...model, "--tls-cert", "a.pem"], 2, /both --tls-cert and --tls-key/],
    [[...model, "--api-keys", notKeys], 1, /keys\.json.*16 characters.*\[BAD_CONFIG\]/],
    [[...model, "--api-keys", join(folder.path, "no.json")], 1, /no\.json.*\[FILE_NOT_FOUND\]/],
    [["--device", "tpu"], 2, /--device tpu is unknown/],
  ];
  for (const [args, status, message] of cases) {
    // What fails to listen has started an engine, which must not keep the process from ending.
    const result = await (args.includes("silent") ? usmLite : usmLiteHere)("serve", ...args);
    t.deepEqual([result.status, result.stdout], [status, ""], `${args.join(" ")}: ${result.stderr}`);
    t.regex(result.stderr, message);
  }
});

test("the example manifests are YAML, and use options that there are", async (t) => {
  const manifests = join(dirname(main), "..", "..", "..", "examples", "kubernetes");
  const help = { serve: (await usmLiteHere("serve", "--help")).stdout, batch: (await usmLiteHere("batch", "work", "--help")).stdout };
  let options = 0;
  for (const file of readdirSync(manifests).filter((name) => name.endsWith(".yaml"))) {
    for (const document of parseAllDocuments(readFileSync(join(manifests, file), "utf8"))) {
      t.deepEqual(document.errors, [], file);
      const { kind, spec } = document.toJS() as { kind: string; spec: { template: { spec: { containers: { args: string[] }[] } } } };
      if (kind !== "Deployment") continue;
      for (const { args } of spec.template.spec.containers) {
        for (const option of args.filter((arg) => arg.startsWith("--"))) {
          t.true(help[args[0] as "serve" | "batch"].includes(`${option.split("=")[0]} `), option);
          options++;
        }
      }
    }
  }
  t.true(options > 5);
});
