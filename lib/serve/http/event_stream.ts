/** Server-sent events: one `data:` line of JSON each, as OpenAI's API streams transcripts. */
import type { FastifyReply } from "fastify";
import { limitDelivery } from "./delivery.js";
import type { OpenAiErrorBody } from "./openai_error.js";

/**
 * Begins with the first event, so that a request that fails before there is text gets a response with the status of its
 * error.
 */
export class EventStream {
  constructor(private readonly reply: FastifyReply) {}

  get begun(): boolean {
    return this.reply.raw.headersSent;
  }

  send(event: { readonly type: string } | OpenAiErrorBody): void {
    const { raw } = this.reply;
    if (!this.begun) {
      this.reply.hijack();
      raw.writeHead(200, {
        ...(this.reply.getHeaders() as Record<string, string>),
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no", // proxies shall pass events on as they come
      });
    }
    // A client that does not read holds at most its own transcript here.
    raw.write(`data: ${JSON.stringify(event)}\n\n`);
  }

  end(): void {
    limitDelivery(this.reply.raw);
    this.reply.raw.end();
  }
}
