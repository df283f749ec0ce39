import { accessSync, constants } from "node:fs";
import test, { type ExecutionContext } from "ava";
import { chromium, type Browser } from "playwright-core";
import { loadModel, Recognizer } from "../lib/index.js";
import { asDecoded, servingFolder, startServer, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

/** A Chromium that the system has, or that CHROMIUM names. */
const executablePath = [process.env["CHROMIUM"], "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  (path) => {
    try {
      accessSync(path ?? "", constants.X_OK);
      return true;
    } catch {
      return false;
    }
  },
);
const folder = servingFolder("serve-page");
test.after.always(folder.clean);
const inBrowser = executablePath ? test : test.skip;

/** A browser that is there but cannot run here is no fault of the page. */
async function launched(t: ExecutionContext): Promise<Browser | undefined> {
  try {
    const args = ["--no-sandbox", "--disable-dev-shm-usage"];
    return await chromium.launch({ executablePath: executablePath as string, args, timeout: 120_000 });
  } catch (error) {
    t.log(`SKIPPED: ${executablePath} does not start: ${(error as Error).message}`);
    t.pass();
    return undefined;
  }
}

inBrowser("a recording dropped on the page is transcribed, and an error is shown (Chromium)", async (t) => {
  const samples = tones(1.5, 1);
  const expected = new Recognizer(loadModel(folder.model)).transcribe(asDecoded(samples)).text;
  const browser = await launched(t);
  if (!browser) return;
  await using server = await startServer(folder.model, { apiKeys: [{ name: "a", key: "a-key-of-some-length" }] });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(120_000);
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    await page.goto(server.url);
    await page.getByText("ready", { exact: true }).waitFor();
    await page.fill("#key", "a-key-of-some-length");
    const drop = async (bytes: Buffer, name: string): Promise<void> => {
      const transfer = await page.evaluateHandle(
        ([base64, fileName]) => {
          // In the browser: its types are not those of Node.js.
          const { DataTransfer: Transfer } = globalThis as unknown as { DataTransfer: new () => { items: { add(file: File): void } } };
          const data = new Transfer();
          data.items.add(new File([Uint8Array.from(atob(base64 as string), (c) => c.charCodeAt(0))], fileName as string));
          return data;
        },
        [bytes.toString("base64"), name],
      );
      await page.dispatchEvent("#drop", "drop", { dataTransfer: transfer });
    };
    await drop(wav(samples), "speech.wav");
    await page.getByText(/^speech\.wav: .* s$/).waitFor();
    t.is(await page.textContent("#transcript"), expected);
    t.deepEqual(problems, []);
    await drop(Buffer.from("these are words, not sound\n".repeat(30)), "notes.txt");
    await page.locator("#transcript.error").waitFor();
    t.regex((await page.textContent("#transcript")) ?? "", /notes\.txt/);
    await page.setInputFiles("#file", { name: "chosen.wav", mimeType: "audio/wav", buffer: wav(samples) });
    await page.getByText(/^chosen\.wav: .* s$/).waitFor();
    t.is(await page.textContent("#transcript"), expected);
  } finally {
    await browser.close();
  }
});

test("the page allows no script but its own, and status is JSON", async (t) => {
  await using server = await startServer(folder.model);
  const response = await fetch(server.url);
  t.regex(response.headers.get("content-type") ?? "", /text\/html/);
  t.regex(response.headers.get("content-security-policy") ?? "", /default-src 'none'.*script-src 'sha256-/);
  t.deepEqual(await (await fetch(`${server.url}/status`)).json(), {
    state: "ready",
    model: "tiny",
    workers: 1,
    active: 0,
    queued: 0,
    streams: 0,
    needsKey: false,
  });
});
