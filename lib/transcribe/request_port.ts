/** Requests to a worker, attended to in order, but for those that give a recording up: they can be heard in the middle of a pass. */
import { receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import type { WorkerRequest } from "./worker_messages.js";

export class RequestPort {
  /** Came in the middle of a pass, and wait for its end. */
  private held: WorkerRequest[] = [];

  /**
   * @param attend to a request
   * @param giveUp a recording; false when it is not under way, so that what is held may begin it
   */
  constructor(
    private readonly port: MessagePort,
    private readonly attend: (request: WorkerRequest) => void,
    private readonly giveUp: (id: number) => boolean,
  ) {
    port.on("message", (request: WorkerRequest) => {
      this.attendToHeld();
      attend(request);
    });
  }

  /** To be called by work that keeps the thread, and with it the event loop, busy for long. */
  hearAborts(): void {
    for (let received; (received = receiveMessageOnPort(this.port) as { message: WorkerRequest } | undefined);) {
      const { message } = received;
      if (message.kind === "abort" && this.giveUp(message.id)) continue;
      if (this.held.length === 0) setImmediate(() => this.attendToHeld());
      this.held.push(message);
    }
  }

  private attendToHeld(): void {
    for (const request of this.held.splice(0)) this.attend(request);
  }
}
