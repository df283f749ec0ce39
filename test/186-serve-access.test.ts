import test from "ava";
import { ApiKeys } from "../lib/serve/api_keys.js";
import { beginUpload, servingFolder, startServer, until } from "./serving.js";

const folder = servingFolder("serve-access");
test.after.always(folder.clean);

test("only who has a key is let in, and no more often than agreed", async (t) => {
  const apiKeys = [
    { name: "careful", key: "a-key-of-some-length", requestsPerMinute: 2 },
    { name: "one", key: "another-key-of-length", concurrent: 1 },
  ];
  await using locked = await startServer(folder.model, { apiKeys });
  const ask = (authorization?: string) =>
    fetch(`${locked.url}/v1/models`, authorization === undefined ? {} : { headers: { authorization } });
  for (const wrong of [undefined, "Bearer", "Bearer wrong-key-of-length", "Basic a-key-of-some-length", "Bearer a-key-of-some-lengthy"]) {
    const response = await ask(wrong);
    t.is(response.status, 401, wrong);
    t.is(response.headers.get("www-authenticate"), "Bearer");
    t.like(await response.json(), { error: { code: "invalid_api_key", type: "authentication_error" } });
  }
  for (const path of ["/health/live", "/health/ready", "/metrics"]) t.is((await fetch(locked.url + path)).status, 200, path);
  t.is((await ask("Bearer a-key-of-some-length")).status, 200);
  t.is((await ask("bearer a-key-of-some-length")).status, 200);
  const limited = await ask("Bearer a-key-of-some-length");
  t.is(limited.status, 429);
  t.true(Number(limited.headers.get("retry-after")) > 1);
  t.like(await limited.json(), { error: { code: "rate_limit_exceeded" } });
  const busy = await beginUpload(locked, ["Authorization: Bearer another-key-of-length"]);
  await until(() => locked.dispatcher.receiving === 1);
  const second = await ask("Bearer another-key-of-length");
  t.like(await second.json(), { error: { code: "too_many_concurrent_requests" } });
  busy.destroy();
  await until(async () => (await ask("Bearer another-key-of-length")).status === 200);
});

test("allowances refill with time, and keys may be given by their digest", (t) => {
  let now = 0;
  const sha256 = "3cd2e3d0c3bb5e9d8ce1a0ab6ec3cdb9ab9ae1f9e6ad8e4d0c5ab4a4ee8d9f10";
  const keys = new ApiKeys(
    [
      { name: "a", key: "0123456789abcdef", requestsPerMinute: 6 },
      { name: "b", sha256 },
    ],
    () => now,
  );
  const client = keys.find("0123456789abcdef");
  t.is(client?.name, "a");
  t.is(keys.find(sha256), undefined);
  for (let i = 0; i < 6; i++) client?.enter()();
  t.throws(() => client?.enter(), { message: /6 requests a minute/ });
  now += 9_999;
  t.throws(() => client?.enter());
  now += 1;
  client?.enter()();
  for (const bad of [
    [],
    [{ name: "x" }],
    [{ name: "x", key: "short" }],
    [{ name: "x", sha256: "12" }],
    [{ name: "x", key: "0123456789abcdef", sha256 }],
    [{ key: "0123456789abcdef", nmae: "x" }],
  ]) {
    t.throws(() => new ApiKeys(bad as never), { code: "BAD_CONFIG" }, JSON.stringify(bad));
  }
});
