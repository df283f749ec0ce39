/** Who may use the service, and how much. Keys are compared in constant time, and never logged. */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { problemOf } from "../checkpoint/checked_value.js";
import { unreadableFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { shortestApiKey } from "./serve_options.js";
import { ServiceError } from "./service_error.js";

const apiKeySchema = z.strictObject({
  /** What logs and metrics call its owner. */
  name: z.string().min(1).max(100),
  /** The key itself, or `sha256`. */
  key: z.string().min(shortestApiKey, `keys need ${shortestApiKey} characters or more`).optional(),
  /** SHA-256 of the key in hexadecimal, so that the file need not hold it. */
  sha256: z
    .string()
    .regex(/^[0-9a-fA-F]{64}$/, "64 hexadecimal digits are needed")
    .optional(),
  requestsPerMinute: z.number().positive().optional(),
  /** Requests and streams at the same time. */
  concurrent: z.int().positive().optional(),
});

export type ApiKey = z.input<typeof apiKeySchema>;

/**
 * Reads a JSON file: `[{"name", "key" or "sha256", "requestsPerMinute", "concurrent"}]`.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_CONFIG
 */
export function readApiKeys(path: string): ApiKey[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw unreadableFile(path, error);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message may quote the file, and with it a key.
    throw new UsmLiteError("BAD_CONFIG", `${path} is not JSON; it must hold an array of API keys`);
  }
  return checkApiKeys(json, path);
}

const digestOf = (key: string): Buffer => createHash("sha256").update(key, "utf8").digest();

/** @throws UsmLiteError BAD_CONFIG */
export function checkApiKeys(json: unknown, source: string): ApiKey[] {
  const result = z.array(apiKeySchema).min(1).safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: ${issue?.path.length ? `key ${issue.path.join(".")}: ` : ""}${issue && problemOf(issue)}; docs/serving.md shows the file`,
    );
  }
  const both = result.data.find(({ key, sha256 }) => (key === undefined) === (sha256 === undefined));
  if (both) throw new UsmLiteError("BAD_CONFIG", `${source}: the key of "${both.name}" must have either "key" or "sha256"`);
  const owners = new Map<string, string>();
  for (const { name, key, sha256 } of result.data) {
    const digest = sha256?.toLowerCase() ?? digestOf(key as string).toString("hex");
    const other = owners.get(digest);
    if (other !== undefined)
      throw new UsmLiteError("BAD_CONFIG", `${source}: "${other}" and "${name}" have the same key; each needs one of its own`);
    owners.set(digest, name);
  }
  return result.data;
}

/** A client as the service sees it. */
export interface Client {
  readonly name: string;
  /**
   * Counts a request or stream; call what it returns when that ends.
   * @throws ServiceError rate_limit_exceeded, too_many_concurrent_requests
   */
  enter(kind?: "requests" | "streams"): () => void;
}

export class ApiKeys {
  private owners: readonly Owner[] = [];

  /** @throws UsmLiteError BAD_CONFIG */
  constructor(
    keys: readonly ApiKey[],
    private readonly now: () => number = () => performance.now(),
  ) {
    this.replace(keys);
  }

  /** From now on these hold. What a key that stays has under way, and has asked for in the last minute, still counts. @throws UsmLiteError BAD_CONFIG */
  replace(keys: readonly ApiKey[]): void {
    this.owners = checkApiKeys(keys, "API keys").map((key) => {
      const digest = key.sha256 === undefined ? digestOf(key.key as string) : Buffer.from(key.sha256, "hex");
      const owner = this.owners.find((one) => one.digest.equals(digest));
      return owner ? owner.limit(key) : new Owner(digest, key, this.now);
    });
  }

  /** The owner of a key. Takes the same time whichever it is, and whether or not there is one. */
  find(key: string): Client | undefined {
    const digest = digestOf(key);
    let found: Client | undefined;
    for (const owner of this.owners) if (timingSafeEqual(digest, owner.digest)) found = owner;
    return found;
  }
}

type Limits = Pick<ApiKey, "name" | "requestsPerMinute" | "concurrent">;

/** Whose key it is, with a token bucket that holds up to a minute's requests, and a count of requests under way. */
class Owner implements Client {
  private tokens: number;
  private filled: number;
  private running = 0;

  constructor(
    readonly digest: Buffer,
    private limits: Limits,
    private readonly now: () => number,
  ) {
    this.tokens = limits.requestsPerMinute ?? Infinity;
    this.filled = now();
  }

  get name(): string {
    return this.limits.name;
  }

  /** Holds the owner to other limits. */
  limit(limits: Limits): this {
    this.tokens = Math.min(this.tokens, limits.requestsPerMinute ?? Infinity);
    this.limits = limits;
    return this;
  }

  enter(): () => void {
    const { requestsPerMinute = Infinity, concurrent = Infinity } = this.limits;
    if (this.running >= concurrent) {
      throw new ServiceError("too_many_concurrent_requests", `this API key may have ${concurrent} requests under way at a time`, 1);
    }
    const now = this.now();
    if (requestsPerMinute < Infinity) {
      const perMs = requestsPerMinute / 60_000;
      this.tokens = Math.min(Math.max(1, requestsPerMinute), this.tokens + (now - this.filled) * perMs);
      this.filled = now;
      if (this.tokens < 1) {
        const seconds = Math.ceil((1 - this.tokens) / perMs / 1000);
        throw new ServiceError("rate_limit_exceeded", `this API key may make ${requestsPerMinute} requests a minute`, seconds);
      }
      this.tokens--;
    }
    this.running++;
    let left = false;
    return () => {
      if (!left) this.running--;
      left = true;
    };
  }
}
