/** Clients that send recordings to a transcription service, one after the other each. */
import { Agent, request } from "node:http";

/** A recording as it is sent. */
export interface Clip {
  readonly seconds: number;
  readonly wav: Buffer;
}

export interface LoadResult {
  /** Milliseconds of each request that was answered with a transcript. */
  readonly latencies: readonly number[];
  readonly audioSeconds: number;
  readonly wallSeconds: number;
  /** Answers with status 429. */
  readonly refused: number;
  /** All other answers, and requests without one, by what came instead. */
  readonly failures: Readonly<Record<string, number>>;
}

const boundary = "----usm-lite-benchmark";

function multipart({ wav }: Clip): Buffer {
  const field = `--${boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n`;
  const file = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n`;
  return Buffer.concat([Buffer.from(field + file), wav, Buffer.from(`\r\n--${boundary}--\r\n`)]);
}

/**
 * `clients` take the next clip whenever they have an answer, for `seconds`. The time ends with the last answer, so that
 * nothing counts that was not finished.
 */
export async function load(url: string, clips: readonly Clip[], clients: number, seconds: number): Promise<LoadResult> {
  const bodies = clips.map(multipart);
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const latencies: number[] = [];
  const failures: Record<string, number> = {};
  let audioSeconds = 0;
  let refused = 0;
  let next = 0;
  const started = performance.now();
  const client = async (): Promise<void> => {
    while (performance.now() - started < 1000 * seconds) {
      const index = next++ % clips.length;
      const begin = performance.now();
      const status = await post(agent, url, bodies[index] as Buffer).catch((error: Error) => error.message);
      if (status === 200) {
        latencies.push(performance.now() - begin);
        audioSeconds += (clips[index] as Clip).seconds;
      } else if (status === 429) {
        refused++;
        await new Promise((resolve) => setTimeout(resolve, 100)); // a client that is refused does not ask again at once
      } else {
        failures[status] = (failures[status] ?? 0) + 1;
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  agent.destroy();
  return { latencies, audioSeconds, wallSeconds: (performance.now() - started) / 1000, refused, failures };
}

function post(agent: Agent, url: string, body: Buffer): Promise<number | string> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": `multipart/form-data; boundary=${boundary}`, "content-length": body.length };
    const sent = request(`${url}/v1/audio/transcriptions`, { method: "POST", agent, headers }, (response) => {
      response
        .resume()
        .on("end", () => resolve(response.statusCode ?? "no status"))
        .on("error", reject);
    });
    sent.on("error", reject).end(body);
  });
}

/** The value that `share` of the values are not above. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? NaN;
}
