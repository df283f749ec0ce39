/** When each part of a stream arrived: what latency is counted from. */

export class ArrivalClock {
  private arrivals: { readonly end: number; readonly time: number }[] = [];

  /** @param end samples of the stream that are there now */
  note(end: number, time: number): void {
    this.arrivals.push({ end, time });
  }

  /** When sample `position` arrived. Earlier ones are forgotten: positions must not go back. */
  arrivalOf(position: number): number | undefined {
    while (this.arrivals.length > 1 && (this.arrivals[0]?.end ?? 0) < position) this.arrivals.shift();
    return this.arrivals[0]?.time;
  }
}
