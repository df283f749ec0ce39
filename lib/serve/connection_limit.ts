/** How many connections a server has, and may have. */
import type { Server, Socket } from "node:net";

/** How often, at most, it is told that there are too many. */
const tellMs = 60_000;

export class ConnectionLimit {
  /** Idle ones included. */
  open = 0;
  private toldAt = -Infinity;

  /**
   * @param onDrop called for each connection that is closed at once
   * @param tell called for the first of them in a minute
   */
  constructor(
    private readonly maximum: number,
    private readonly onDrop: () => void,
    private readonly tell: () => void,
  ) {}

  apply(server: Server): void {
    server.maxConnections = this.maximum;
    server.on("connection", (socket: Socket) => {
      this.open++;
      socket.once("close", () => this.open--);
    });
    server.on("drop", () => {
      this.onDrop();
      if (performance.now() - this.toldAt < tellMs) return;
      this.toldAt = performance.now();
      this.tell();
    });
  }
}
