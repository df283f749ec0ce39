/** Where a server listens, and with which certificate. */
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createSecureContext } from "node:tls";
import type { FastifyInstance } from "fastify";
import { UsmLiteError } from "../errors.js";
import type { ServeOptions } from "./serve_options.js";

/** Whether only this machine reaches it. */
export const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || host.startsWith("127.");

/** Host and port, as URLs have them. */
export function authorityOf({ server }: FastifyInstance): string {
  const { address, port, family } = server.address() as AddressInfo;
  return `${family === "IPv6" ? `[${address}]` : address}:${port}`;
}

/** @throws UsmLiteError INVALID_ARGUMENT when it cannot */
export async function listenAt(app: FastifyInstance, host: string, port: number): Promise<void> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const wrongHost = "the host is an address of this machine, or 0.0.0.0 for all of them";
    const hint = {
      EADDRINUSE: "end what listens there, or choose another port",
      EADDRNOTAVAIL: wrongHost,
      ENOTFOUND: wrongHost,
      EAI_AGAIN: wrongHost,
      EACCES: "ports below 1024 are for root; choose another one",
    }[code ?? ""];
    throw new UsmLiteError("INVALID_ARGUMENT", `cannot listen on ${host}:${port}: ${message}${hint === undefined ? "" : `; ${hint}`}`, {
      cause: error,
    });
  }
}

/** What the files of {@link ServeOptions.tls} hold. @throws UsmLiteError FILE_UNREADABLE, BAD_CONFIG */
export async function readTls({ tls }: Pick<ServeOptions, "tls">) {
  if (!tls) return undefined;
  const [cert, key] = [await pem(tls.certificate), await pem(tls.key)];
  const context = { cert, key, ...(tls.clientAuthority === undefined ? {} : { ca: await pem(tls.clientAuthority), requestCert: true }) };
  try {
    createSecureContext(context);
  } catch (cause) {
    const files = [tls.certificate, tls.key, ...(tls.clientAuthority === undefined ? [] : [tls.clientAuthority])].join(", ");
    throw new UsmLiteError(
      "BAD_CONFIG",
      `TLS cannot use ${files}: ${(cause as Error).message}; give a certificate chain and its private key, each in PEM`,
      { cause },
    );
  }
  return context;
}

async function pem(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new UsmLiteError("FILE_UNREADABLE", `${path} cannot be read: ${(cause as Error).message}; name a PEM file`, { cause });
  }
}
