/** What a model hub says about a repository: the interface of the Hugging Face hub. */
import { z } from "zod";
import { checkedValue } from "../checkpoint/checked_value.js";
import { UsmLiteError } from "../errors.js";
import { tokenizerFiles } from "../text/load_tokenizer.js";

export const defaultEndpoint = process.env["HF_ENDPOINT"] ?? "https://huggingface.co";

/** A file of a repository, and how to tell that it came whole. */
export interface RemoteFile {
  readonly name: string;
  readonly size: number | undefined;
  /** SHA-256 of large files; the id of the git blob of small ones, a SHA-1 over its length and content. */
  readonly checksum: { readonly kind: "sha256" | "gitBlob"; readonly hex: string } | undefined;
}

export interface RemoteRevision {
  /** The commit: what is downloaded under it never changes. */
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

const revisionSchema = z.looseObject({
  sha: z.string().regex(/^[0-9a-f]{40,64}$/),
  siblings: z.array(
    z.looseObject({
      rfilename: z.string(),
      size: z.number().int().nonnegative().nullish(),
      blobId: z
        .string()
        .regex(/^[0-9a-f]{40}$/)
        .nullish(),
      lfs: z.looseObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/), size: z.number().int().nonnegative() }).nullish(),
    }),
  ),
});

/** @throws UsmLiteError INVALID_ARGUMENT unless it reads ORG/MODEL */
export function checkRepositoryName(name: string): void {
  if (/^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(name) && !name.includes("..")) return;
  throw new UsmLiteError("INVALID_ARGUMENT", `${JSON.stringify(name)} is no model; name it as ORG/MODEL`);
}

/** @throws UsmLiteError DOWNLOAD_FAILED, INVALID_ARGUMENT for an endpoint that is no address */
export async function readRevision(
  endpoint: string,
  repository: string,
  revision: string,
  headers: Record<string, string>,
): Promise<RemoteRevision> {
  const url = `${endpoint}/api/models/${repository}/revision/${encodeURIComponent(revision)}?blobs=true`;
  if (!/^https?:$/.test(URL.canParse(url) ? new URL(url).protocol : "")) {
    throw new UsmLiteError("INVALID_ARGUMENT", `endpoint ${JSON.stringify(endpoint)} is no address; it begins with https:// or http://`);
  }
  const response = await request(url, headers);
  const { sha, siblings } = checkedValue(revisionSchema, await response.json().catch(() => undefined), {
    source: url,
    code: "DOWNLOAD_FAILED",
  });
  const files = siblings.map(({ rfilename, size, blobId, lfs }): RemoteFile => ({
    name: rfilename,
    size: lfs?.size ?? size ?? undefined,
    checksum: lfs ? { kind: "sha256", hex: lfs.sha256 } : blobId ? { kind: "gitBlob", hex: blobId } : undefined,
  }));
  return { commit: sha, files };
}

/** A request whose answer is 2xx. @throws UsmLiteError DOWNLOAD_FAILED */
export async function request(url: string, headers: Record<string, string>): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { headers });
  } catch (cause) {
    const reason = (cause as Error).cause;
    throw new UsmLiteError(
      "DOWNLOAD_FAILED",
      `${url} cannot be reached: ${reason instanceof Error ? reason.message : (cause as Error).message}`,
      { cause },
    );
  }
  if (response.ok) return response;
  await response.body?.cancel();
  const hint = {
    401: "; a token is needed (HF_TOKEN)",
    403: "; the token may not read it",
    404: "; there is no such model, revision or file",
  }[response.status];
  throw new UsmLiteError("DOWNLOAD_FAILED", `${url}: the server answered ${response.status}${hint ?? ""}`);
}

const wanted = new Set([
  "config.json",
  "generation_config.json",
  "preprocessor_config.json",
  "processor_config.json",
  "language_model.bin",
  "language_model.json",
  "model.safetensors",
  "model.safetensors.index.json",
  ...tokenizerFiles,
]);

/** Those that a model folder is made of: configuration, tokenizer and safetensors. Names with folders in them are none. */
export function modelFilesOf({ files }: RemoteRevision): RemoteFile[] {
  const chosen = files.filter(({ name }) => wanted.has(name) || /^model-\d{5}-of-\d{5}\.safetensors$/.test(name));
  return chosen.some(({ name }) => name === "model.safetensors")
    ? chosen.filter(({ name }) => !/^model[-.].*(index\.json|\d\.safetensors)$/.test(name))
    : chosen;
}
