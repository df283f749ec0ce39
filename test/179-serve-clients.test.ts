/** How much one client may take of a server, and who a client is. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import test from "ava";
import { WebSocket } from "ws";
import { UsmLiteError } from "../lib/operations.js";
import { ClientAddresses, networkOf } from "../lib/serve/client_addresses.js";
import { Server } from "../lib/serve/server.js";
import { ServiceError } from "../lib/serve/service_error.js";
import { beginUpload, form, metric, post, servingFolder, startServer, until, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-clients");
let server: Server;
test.before(async () => {
  server = await startServer(folder.model, { maximumPerAddress: 2, maximumStreamsPerAddress: 1, trustedProxies: ["127.0.0.0/8"] });
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});

const from = (address: string): Record<string, string> => ({ "x-forwarded-for": address });
const models = (of: Server, address: string): Promise<Response> => fetch(`${of.url}/v1/models`, { headers: from(address) });
const request = (remoteAddress: string | undefined, forwarded?: string): IncomingMessage =>
  ({ socket: { remoteAddress }, headers: forwarded === undefined ? {} : from(forwarded) }) as unknown as IncomingMessage;

test("an address is who connected, or whom proxies that are trusted name", (t) => {
  const limits = { maximumPerAddress: 1, maximumStreamsPerAddress: 1 };
  const direct = new ClientAddresses({ ...limits, trustedProxies: [] });
  const proxied = new ClientAddresses({ ...limits, trustedProxies: ["10.0.0.0/8", "loopback"] });
  const cases: [connected: string | undefined, forwarded: string | undefined, withoutTrust: string, withTrust: string][] = [
    ["192.0.2.1", undefined, "192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", undefined, "192.0.2.1", "192.0.2.1"],
    ["fe80::1%eth0", undefined, "fe80::1", "fe80::1"],
    [undefined, undefined, "unknown", "unknown"],
    ["10.1.2.3", "192.0.2.7", "10.1.2.3", "192.0.2.7"],
    ["::ffff:10.1.2.3", "192.0.2.7", "10.1.2.3", "192.0.2.7"],
    ["10.1.2.3", "203.0.113.9, 192.0.2.7, 10.9.9.9", "10.1.2.3", "192.0.2.7"], // what a client adds itself comes first
    ["192.0.2.1", "203.0.113.9", "192.0.2.1", "192.0.2.1"], // no proxy of ours
    ["10.1.2.3", "nobody", "10.1.2.3", "10.1.2.3"],
    ["10.1.2.3", "", "10.1.2.3", "10.1.2.3"],
    ["127.0.0.1", "2001:db8::5", "127.0.0.1", "2001:db8::5"],
  ];
  for (const [connected, forwarded, withoutTrust, withTrust] of cases) {
    const about = `${connected} ${forwarded}`;
    t.deepEqual([direct.of(request(connected, forwarded)), proxied.of(request(connected, forwarded))], [withoutTrust, withTrust], about);
  }
  const warned: string[] = [];
  const watched = new ClientAddresses({ ...limits, trustedProxies: ["loopback"] }, (proxy) => warned.push(proxy));
  for (const [connected, forwarded] of [["127.0.0.1", "192.0.2.7"], ["10.1.2.3"], ["10.1.2.3", "192.0.2.7"], ["10.1.2.4", "192.0.2.7"]])
    watched.of(request(connected, forwarded));
  t.deepEqual(warned, ["10.1.2.3"], "told once");
  t.throws(() => new ClientAddresses({ ...limits, trustedProxies: ["the balancer"] }), {
    instanceOf: UsmLiteError,
    code: "INVALID_ARGUMENT",
    message: /trusted proxies the balancer: .*; name addresses or networks such as 10\.0\.0\.0\/8, or loopback/,
  });
});

test("addresses of one IPv6 network count as one", (t) => {
  const cases = [
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:0001:2::9", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::", "fe80:0:0:0::/64"],
    ["unknown", "unknown"],
  ];
  for (const [address, network] of cases) t.is(networkOf(address as string), network as string);
  const addresses = new ClientAddresses({ maximumPerAddress: 2, maximumStreamsPerAddress: 1, trustedProxies: [] });
  const [one, other, far] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map((address) => addresses.clientAt(address));
  const leave = one?.enter();
  other?.enter();
  const error = t.throws(() => one?.enter(), {
    instanceOf: ServiceError,
    message: /2001:db8::1 may have no more than 2 requests under way;.* API key/,
  });
  t.deepEqual([error.code, error.retryAfterSeconds], ["too_many_concurrent_requests", 1]);
  t.notThrows(() => far?.enter());
  t.notThrows(() => one?.enter("streams"), "they are counted apart");
  leave?.();
  leave?.(); // counts once
  t.notThrows(() => other?.enter());
  t.throws(() => other?.enter(), { instanceOf: ServiceError });
});

test.serial("one address cannot take the queue from others, nor can its headers", async (t) => {
  const uploads = [await beginUpload(server, ["X-Forwarded-For: 192.0.2.1"]), await beginUpload(server, ["X-Forwarded-For: 192.0.2.1"])];
  await until(() => server.dispatcher.receiving === 2);
  const refused = await post(server, form(wav(tones(1, 1))), { headers: from("203.0.113.1, 192.0.2.1") });
  t.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "1"]);
  t.like(await refused.json(), { error: { type: "rate_limit_error", code: "too_many_concurrent_requests", param: null } });
  t.is((await models(server, "192.0.2.1")).status, 429);
  t.is((await fetch(`${server.url}/health/live`, { headers: from("192.0.2.1") })).status, 200);
  t.is((await post(server, form(wav(tones(1, 1))), { headers: from("192.0.2.2") })).status, 200);
  t.is(await metric(server, 'rejected_total{code="too_many_concurrent_requests"}'), 2);
  uploads[0]?.destroy();
  await until(async () => (await models(server, "192.0.2.1")).status === 200);
  uploads[1]?.destroy();
  await until(() => server.dispatcher.receiving === 0);
});

/** A WebSocket connection, or the answer that it was refused with. */
async function listen(address: string): Promise<WebSocket | { status: number | undefined; retryAfter: string | undefined; body: string }> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/realtime`, { headers: from(address) });
  return new Promise((resolve) => {
    socket.once("open", () => resolve(socket));
    socket.on("error", () => undefined);
    socket.once("unexpected-response", (_, response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.once("end", () => resolve({ status: response.statusCode, retryAfter: response.headers["retry-after"], body }));
    });
  });
}

test.serial("nor all places for live speech, and refusals are counted", async (t) => {
  const before = await metric(server, "rejected_total");
  const first = (await listen("192.0.2.1")) as WebSocket;
  const refused = await listen("192.0.2.1");
  t.like(refused, { status: 429, retryAfter: "1" });
  const { error } = JSON.parse((refused as { body: string }).body) as { error: { code: string; message: string } };
  t.is(error.code, "too_many_concurrent_requests");
  t.regex(error.message, /^192\.0\.2\.1 may have no more than 1 streams under way;/);
  t.is(await metric(server, "rejected_total"), before + 1);
  t.is((await models(server, "192.0.2.1")).status, 200, "requests are counted apart");
  const other = (await listen("192.0.2.2")) as WebSocket;
  first.close();
  await until(() => server.streams === 1);
  const again = (await listen("192.0.2.1")) as WebSocket;
  t.true(again instanceof WebSocket);
  for (const socket of [other, again]) socket.close();
  await until(() => server.streams === 0);
});

test("more connections than allowed are closed at once, and counted", async (t) => {
  await using small = await startServer(folder.model, { maximumConnections: 2 });
  const { hostname, port } = new URL(small.url);
  const open = async (): Promise<Socket> => {
    const socket = connect(Number(port), hostname);
    socket.on("error", () => undefined);
    await once(socket, "connect");
    return socket;
  };
  const [idle, speaking] = [await open(), await open()];
  const dropped = await open();
  const closed = once(dropped, "close");
  dropped.resume(); // whatever comes
  await closed;
  speaking.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  let answer = "";
  speaking.setEncoding("utf8").on("data", (text: string) => (answer += text));
  await until(() => answer.includes("usmlite_event_loop_delay_seconds "));
  t.regex(answer, /\nusmlite_connections_dropped_total 1\n/);
  t.regex(answer, /\nusmlite_connections_open 2\n/);
  idle.destroy();
  await until(async () => (await fetch(`${small.url}/health/live`).catch(() => undefined))?.status === 200);
  speaking.destroy();
});

test("behind a proxy that is not trusted everybody is the proxy", async (t) => {
  await using naive = await startServer(folder.model, { maximumPerAddress: 1 });
  const upload = await beginUpload(naive);
  await until(() => naive.dispatcher.receiving === 1);
  t.is((await models(naive, "192.0.2.1")).status, 429);
  upload.destroy();
  await t.throwsAsync(Server.start({ model: folder.model, trustedProxies: ["10.0.0.0/99"], logLevel: "silent" }), {
    code: "INVALID_ARGUMENT",
  });
});
