/** Clients without keys, told apart by their addresses: how many requests and streams each may have under way. */
import type { IncomingMessage } from "node:http";
import { isIP, isIPv6 } from "node:net";
import proxyAddress from "@fastify/proxy-addr";
import { UsmLiteError } from "../errors.js";
import type { Client } from "./api_keys.js";
import { ServiceError } from "./service_error.js";

export interface AddressLimits {
  /** Requests of an address that are under way, those whose audio is still coming included. */
  readonly maximumPerAddress: number;
  /** Connections of an address that stream audio. */
  readonly maximumStreamsPerAddress: number;
  /** Addresses and networks (CIDR) of proxies, or `loopback`, `linklocal`, `uniquelocal`: what they say in X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[];
}

type Kind = "requests" | "streams";

export class ClientAddresses {
  private readonly isTrusted: (address: string, hop: number) => boolean;
  /** What is under way of each address that has anything under way. */
  private readonly underWay: Readonly<Record<Kind, Map<string, number>>> = { requests: new Map(), streams: new Map() };

  private warned = false;

  /**
   * @param onUntrusted called once with the address of who passes requests on without being trusted
   * @throws UsmLiteError INVALID_ARGUMENT for what is no address of a proxy
   */
  constructor(
    private readonly limits: AddressLimits,
    private readonly onUntrusted: (address: string) => void = () => undefined,
  ) {
    try {
      this.isTrusted = proxyAddress.compile([...limits.trustedProxies]);
    } catch (cause) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `trusted proxies ${limits.trustedProxies.join(",")}: ${(cause as Error).message}; name addresses or networks such as 10.0.0.0/8, or loopback, linklocal or uniquelocal`,
        { cause },
      );
    }
  }

  /** Where a request comes from: who connected, or whom the proxies that are trusted name. */
  of(request: IncomingMessage): string {
    const connected = plain(request.socket.remoteAddress ?? "unknown");
    if (!this.warned && request.headers["x-forwarded-for"] !== undefined && !this.isTrusted(connected, 0)) {
      this.warned = true;
      this.onUntrusted(connected);
    }
    const named = plain((proxyAddress(request, this.isTrusted) as string | undefined) ?? connected);
    return isIP(named) ? named : connected; // anything may stand in a header
  }

  clientAt(address: string): Client {
    const { maximumPerAddress, maximumStreamsPerAddress } = this.limits;
    const hint = "; programs that many people use behind one address should have an API key, or a proxy that --trust-proxy names";
    return {
      name: address,
      enter: (kind = "requests") => {
        const most = kind === "streams" ? maximumStreamsPerAddress : maximumPerAddress;
        return this.enter(kind, networkOf(address), most, `${address} may have no more than ${most} ${kind} under way${hint}`);
      },
    };
  }

  private enter(kind: Kind, network: string, most: number, refusal: string): () => void {
    const counts = this.underWay[kind];
    const before = counts.get(network) ?? 0;
    if (before >= most) throw new ServiceError("too_many_concurrent_requests", refusal, 1);
    counts.set(network, before + 1);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const count = (counts.get(network) as number) - 1;
      if (count > 0) counts.set(network, count);
      else counts.delete(network);
    };
  }
}

/** An IPv4 address that a socket for both families spells as one of IPv6 is an IPv4 address; zones are left out. */
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");

/** Who has an IPv6 address has the 2^64 of its network (RFC 6177): they count as one. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const groups = (part: string | undefined): string[] => (part ? part.split(":") : []);
  const [first, last] = [groups(head), groups(tail)];
  const zeros = tail === undefined ? 0 : 8 - first.length - last.length;
  const whole = [...first, ...Array.from({ length: zeros }, () => "0"), ...last];
  return `${whole
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
