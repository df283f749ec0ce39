/** What docs/serving.md and the help of `serve` say of the service is what it does. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import test from "ava";
import { main, usmLiteHere } from "./command_line.js";
import { servingFolder, startServer } from "./serving.js";

const root = join(dirname(main), "..", "..", "..");

test("every code that an answer may have is in the documentation", (t) => {
  const page = readFileSync(join(root, "docs", "serving.md"), "utf8");
  const places = [/(?:RequestError|ServiceError)\(\s*(?:\d+,\s*)?"(\w+)"/g, /\bcode: "([a-z_]+)"/g, /\[\d{3}, "[^"]+", "(\w+)"\]/g];
  const codes = new Set<string>();
  for (const file of readdirSync(join(root, "lib", "serve"), { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts")) continue;
    const source = readFileSync(join(root, "lib", "serve", file), "utf8");
    for (const place of places) for (const [, code = ""] of source.matchAll(place)) codes.add(code);
  }
  for (const code of ["headers_too_large", "adapter_unusable", "invalid_json"]) codes.add(code);
  t.true(codes.size >= 28, [...codes].join(" "));
  for (const code of codes) t.true(page.includes(`\`${code}\``), code);
});

test("a body that is no form is told to be one, whatever it says it is", async (t) => {
  const folder = servingFolder("no-form");
  t.teardown(folder.clean);
  await using server = await startServer(folder.model);
  const send = async (path: string, type: string, body: string): Promise<unknown[]> => {
    const response = await fetch(`${server.url}${path}`, { method: "POST", headers: { "content-type": type }, body });
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    return [response.status, error.code, error.message];
  };
  const refusal = [415, "unsupported_content_type", "send the audio as multipart/form-data, in a field called file"];
  for (const [type, body] of [
    ["application/json", '{"model": "tiny"}'],
    ["application/json", "{"],
    ["application/octet-stream", "RIFF"],
    ["audio/wav", "RIFF"],
    ["text/plain", "speech"],
    ["nothing", "speech"],
  ] as const) {
    t.deepEqual(await send("/v1/audio/transcriptions", type, body), refusal, type);
  }
  t.deepEqual((await send("/v1/nowhere", "application/json", "{")).slice(0, 2), [404, "unknown_url"]);
});

test("the help of serve says what the model is called, and what a language is to a model of one", async (t) => {
  const help = (await usmLiteHere("serve", "--help")).stdout.replaceAll(/\s+/g, " ");
  t.true(help.includes("usm-lite-default for the model of this package"), help);
  t.true(help.includes("of a model of one language a label"), help);
});
