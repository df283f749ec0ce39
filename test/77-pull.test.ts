import { createHash } from "node:crypto";
import { once } from "node:events";
import fs, { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { syncBuiltinESMExports } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { loadModel } from "../lib/index.js";
import { pullModel } from "../lib/hub/pull.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { temporaryFolder, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("pull");
test.after.always(folder.clean);
const tiny = writeTinyModel(join(folder.path, "model"), { languageModel: false });
/** With adapters for eng, which the weights are for, fra and deu. */
const mms = join(folder.path, "mms");
cpSync(join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models", "mms"), mms, { recursive: true });
for (const language of ["eng", "deu"]) copyFileSync(join(mms, "adapter.fra.safetensors"), join(mms, `adapter.${language}.safetensors`));
const commit = "0123456789abcdef0123456789abcdef01234567";

/** What a test wants the hub to do wrong. */
interface Faults {
  /** Bytes of a file after which the connection breaks, once. */
  breakAfter?: number;
  /** Sends everything although a part was asked for. */
  withoutRanges?: boolean;
  /** Files with other bytes than promised. */
  corrupt?: string;
  extraFiles?: string[];
  /** A file that never ends. */
  endless?: string;
}

/** A hub on this machine that has one model; `requests` are those that came. */
async function hub(faults: Faults = {}, model = tiny): Promise<{ endpoint: string; requests: string[]; close: () => void }> {
  const files = readdirSync(model);
  const requests: string[] = [];
  const sibling = (name: string): object => {
    const bytes = readFileSync(join(model, name));
    const hash = (kind: string, ...parts: (string | Buffer)[]): string =>
      parts.reduce((sum, part) => sum.update(part), createHash(kind)).digest("hex");
    const large = name.endsWith(".safetensors");
    return {
      rfilename: name,
      size: bytes.length,
      blobId: hash("sha1", `blob ${bytes.length}\0`, bytes),
      ...(large ? { lfs: { sha256: hash("sha256", bytes), size: bytes.length } } : {}),
    };
  };
  const server = createServer((message, response) => {
    const path = decodeURIComponent((message.url as string).split("?")[0] as string);
    requests.push(`${path}${message.headers.range ? ` ${message.headers.range}` : ""}`);
    if (/^\/api\/models\/org\/model\/revision\/(main|v1)$/.test(path)) {
      const others = ["pytorch_model.bin", "README.md", "../evil.json", "sub/config.json", ...(faults.extraFiles ?? [])].map((name) => ({
        rfilename: name,
        size: 3,
      }));
      response.end(JSON.stringify({ sha: commit, siblings: [...files.map(sibling), ...others] }));
      return;
    }
    const name = path.replace(`/org/model/resolve/${commit}/`, "");
    if (!files.includes(name)) {
      response.writeHead(404).end();
      return;
    }
    let bytes = readFileSync(join(model, name));
    if (faults.endless === name) {
      const more = setInterval(() => response.write(bytes), 1);
      response.on("close", () => clearInterval(more));
      return;
    }
    if (faults.corrupt === name) bytes = Buffer.concat([bytes.subarray(0, -1), Buffer.from([(bytes.at(-1) as number) ^ 1])]);
    const begin = faults.withoutRanges ? 0 : Number(/bytes=(\d+)-/.exec(message.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(begin > 0 ? 206 : 200, { "content-length": bytes.length - begin });
    if (faults.breakAfter !== undefined && name === "model.safetensors") {
      response.write(bytes.subarray(begin, begin + faults.breakAfter), () => setTimeout(() => message.socket.destroy(), 20));
      delete faults.breakAfter;
      return;
    }
    response.end(bytes.subarray(begin));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = (): void => {
    server.close();
    server.closeAllConnections(); // those that wait for a request would keep the process for a minute
  };
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, close };
}

let caches = 0;
const freshCache = (): string => join(folder.path, `cache${caches++}`);

test("a model is downloaded once, loads, and is found offline", async (t) => {
  const { endpoint, requests, close } = await hub();
  t.teardown(close);
  const cache = freshCache();
  const pulled = await pullModel("org/model", { endpoint, cache });
  t.truthy(loadModel(pulled).tokenizer);
  t.deepEqual(readFileSync(join(pulled, "model.safetensors")), readFileSync(join(tiny, "model.safetensors")));
  t.false(
    existsSync(join(pulled, "pytorch_model.bin")) || existsSync(join(pulled, "..", "evil.json")) || existsSync(join(pulled, "README.md")),
  );
  const before = requests.length;
  t.is(await pullModel("org/model", { endpoint, cache }), pulled);
  t.is(requests.length, before + 1, "the second time only asks for the commit");
  t.is(await pullModel("org/model", { endpoint: "http://127.0.0.1:1", cache, offline: true }), pulled);
  t.is(await pullModel("org/model", { cache, offline: true, revision: commit }), pulled, "by its commit");
  await t.throwsAsync(pullModel("org/model", { cache, offline: true, revision: "v2" }), {
    code: "FILE_NOT_FOUND",
    message: /never pulled/,
  });
});

test("two that want the same model at once download it once", async (t) => {
  const { endpoint, requests, close } = await hub();
  t.teardown(close);
  const cache = freshCache();
  const heard: string[] = [];
  const pull = () => pullModel("org/model", { endpoint, cache, onStatus: (sentence) => heard.push(sentence) });
  const [one, other] = await Promise.all([pull(), pull()]);
  t.is(one, other);
  t.is(requests.filter((path) => path.endsWith("model.safetensors")).length, 1);
  t.is(heard.filter((sentence) => /^waiting: .* is being written by/.test(sentence)).length, 1);
  t.false(readdirSync(join(one, "..")).some((name) => name.endsWith(".lock")));
});

test("a download that broke off goes on where it stopped", async (t) => {
  const { endpoint, requests, close } = await hub({ breakAfter: 1000 });
  t.teardown(close);
  const pulled = await pullModel("org/model", { endpoint, cache: freshCache() });
  t.deepEqual(readFileSync(join(pulled, "model.safetensors")), readFileSync(join(tiny, "model.safetensors")));
  t.true(
    requests.some((line) => line.endsWith("model.safetensors bytes=1000-")),
    requests.join("\n"),
  );
  t.deepEqual(
    readdirSync(pulled).filter((name) => name.endsWith(".partial")),
    [],
  );
});

test.serial("what arrives is written whole, however little the system takes at a time", async (t) => {
  const { endpoint, close } = await hub();
  t.teardown(close);
  const { writeSync } = fs;
  fs.writeSync = ((handle: number, bytes: Uint8Array, begin?: number) => {
    const part = bytes.subarray(begin).subarray(0, 1000);
    return writeSync(handle, part);
  }) as typeof writeSync;
  syncBuiltinESMExports();
  t.teardown(() => {
    fs.writeSync = writeSync;
    syncBuiltinESMExports();
  });
  const pulled = await pullModel("org/model", { endpoint, cache: freshCache() });
  t.deepEqual(readFileSync(join(pulled, "model.safetensors")), readFileSync(join(tiny, "model.safetensors")));
});

test("a server that sends everything again is understood", async (t) => {
  const { endpoint, close } = await hub({ breakAfter: 500, withoutRanges: true });
  t.teardown(close);
  const pulled = await pullModel("org/model", { endpoint, cache: freshCache() });
  t.deepEqual(readFileSync(join(pulled, "model.safetensors")), readFileSync(join(tiny, "model.safetensors")));
});

test("files that are not what the hub promises are refused, small and large", async (t) => {
  for (const corrupt of ["model.safetensors", "tokenizer.json"]) {
    const { endpoint, close } = await hub({ corrupt });
    const cache = freshCache();
    await t.throwsAsync(pullModel("org/model", { endpoint, cache }), {
      code: "DOWNLOAD_FAILED",
      message: new RegExp(`${corrupt} is not what the hub promises: its checksum differs`),
    });
    await t.throwsAsync(pullModel("org/model", { cache, offline: true }), { code: "FILE_NOT_FOUND" }, "what is not whole is not found");
    close();
  }
});

test("a file that does not end is given up, and one that cannot be written is told", async (t) => {
  const { endpoint, close } = await hub({ endless: "tokenizer.json" });
  t.teardown(close);
  const cache = freshCache();
  await t.throwsAsync(pullModel("org/model", { endpoint, cache }), {
    code: "DOWNLOAD_FAILED",
    message: /tokenizer\.json has \d+ bytes, not the \d+ that the hub promises/,
  });
  const path = join(cache, "org--model", commit, "tokenizer.json.partial");
  mkdirSync(path);
  await t.throwsAsync(pullModel("org/model", { endpoint, cache }), {
    code: "FILE_UNWRITABLE",
    message: /tokenizer\.json\.partial cannot be written/,
  });
});

test("what cannot be had is one coded error", async (t) => {
  const { endpoint, close } = await hub();
  t.teardown(close);
  const cache = freshCache();
  const refuse = (name: string, options: object, code: string, message: RegExp) =>
    t.throwsAsync(pullModel(name, { endpoint, cache, ...options }), { code, message });
  await refuse("org/none", {}, "DOWNLOAD_FAILED", /answered 404; there is no such model/);
  await refuse("org/model", { revision: "none" }, "DOWNLOAD_FAILED", /404/);
  await refuse("model", {}, "INVALID_ARGUMENT", /name it as ORG\/MODEL/);
  await refuse("../x/y", {}, "INVALID_ARGUMENT", /ORG\/MODEL/);
  await refuse("org/model", { endpoint: "http://127.0.0.1:1" }, "DOWNLOAD_FAILED", /cannot be reached/);
});

test("only the languages that are asked for are downloaded, one after the other", async (t) => {
  const { endpoint, requests, close } = await hub({ extraFiles: ["adapter.x/../../../y.safetensors"] }, mms);
  t.teardown(close);
  const cache = freshCache();
  const pull = (options: object = {}): Promise<string> => pullModel("org/model", { endpoint, cache, ...options });
  const adapters = (path: string): string[] => readdirSync(path).filter((file) => file.startsWith("adapter."));
  await t.throwsAsync(pull({ language: "fr" }), {
    code: "INVALID_ARGUMENT",
    message: /org\/model has no adapter\.fr\.safetensors; it has such files for fra, deu, eng/,
  });
  await t.throwsAsync(pull({ language: "x/../../../y" }), { code: "INVALID_ARGUMENT" });
  t.false(
    requests.some((path) => path.includes("/resolve/")),
    "a wrong one is told before anything is downloaded",
  );

  const path = await pull();
  t.deepEqual(adapters(path), []);
  t.is(loadModel(path).language, "eng");
  t.is(await pull({ language: "eng" }), path);
  t.deepEqual(adapters(path), [], "its own is in the weights");
  await t.throwsAsync(pull({ language: "fra", offline: true }), {
    code: "FILE_NOT_FOUND",
    message: /the language "fra" of org\/model .* was never pulled/,
  });
  const before = requests.length;
  t.is(await pull({ language: "fra" }), path);
  t.is(requests.length, before + 2, "the commit, and the file");
  t.deepEqual(adapters(path), ["adapter.fra.safetensors"]);
  t.is(loadModel(path, { language: "fra" }).language, "fra");
  await pull({ language: "deu" });
  t.deepEqual(adapters(path), ["adapter.deu.safetensors", "adapter.fra.safetensors"]);
  for (const language of ["fra", "eng", undefined]) t.is(await pull({ language, offline: true }), path);
  t.deepEqual(adapters(await pull({ language: "fra", cache: freshCache() })), ["adapter.fra.safetensors"], "at once with the rest");
});

test("what is wrong with the file of a language is told", async (t) => {
  const { endpoint, close } = await hub({ corrupt: "adapter.fra.safetensors" }, mms);
  t.teardown(close);
  const cache = freshCache();
  const pull = (options: object = {}): Promise<string> => pullModel("org/model", { endpoint, cache, ...options });
  await t.throwsAsync(pull({ language: "fra" }), {
    code: "DOWNLOAD_FAILED",
    message: /adapter\.fra\.safetensors is not what the hub promises/,
  });
  t.false(existsSync(join(await pull({ offline: true }), "adapter.fra.safetensors")), "the rest is there");
  const plain = await hub();
  t.teardown(plain.close);
  await t.throwsAsync(pull({ endpoint: plain.endpoint, cache: freshCache(), language: "fra" }), {
    code: "INVALID_ARGUMENT",
    message: /org\/model has no file for each language; leave the language out/,
  });
});

test("usm-lite pull prints the folder", async (t) => {
  const { endpoint, close } = await hub();
  t.teardown(close);
  const cache = freshCache();
  const result = await usmLite("pull", "org/model", "--endpoint", endpoint, "--cache", cache);
  t.is(result.status, 0, result.stderr);
  t.is(result.stdout, `${join(cache, "org--model", commit)}\n`);
  t.regex(result.stderr, /model\.safetensors, \d+\.\d MB/);
  writeFileSync(join(cache, "org--model", commit, ".complete"), "");
  t.is((await usmLiteHere("pull", "org/model", "--cache", cache, "--offline")).status, 0);
  t.is((await usmLiteHere("pull", "nothing", "--cache", cache)).status, 2);
  const several = await hub({}, mms);
  t.teardown(several.close);
  const french = await usmLiteHere("pull", "org/model", "--language", "fra", "--endpoint", several.endpoint, "--cache", freshCache());
  t.is(french.status, 0, french.stderr);
  t.true(existsSync(join(french.stdout.trim(), "adapter.fra.safetensors")));
});
