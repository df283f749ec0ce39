/** A client that does not take its answer must not keep its connection, and its place, for good. */
import type { ServerResponse } from "node:http";

/** Longest time in which nothing of an answer that has been written is taken. */
export const deliveryTimeoutMs = 60_000;

/** To be called when all of an answer is about to be written. */
export function limitDelivery({ socket }: Pick<ServerResponse, "socket">): void {
  // The server destroys sockets whose time is over; whenever an answer is out it sets its own time for the next request.
  socket?.setTimeout(deliveryTimeoutMs);
}
