/**
 * A queue that is fair between clients by the work they ask for, not by the number of requests: weighted fair queueing
 * with virtual finish times (Demers, Keshav, Shenker 1989; the virtual clock follows the work begun, as in start-time
 * fair queueing, Goyal et al. 1996). A client that sends an hour of audio waits behind one that sends ten seconds.
 */

interface Entry<Item> {
  readonly item: Item;
  readonly client: string;
  /** Virtual times at which its work would begin and end if all clients were served at once. */
  readonly begin: number;
  readonly finish: number;
  readonly order: number;
}

export class FairQueue<Item> {
  private entries: Entry<Item>[] = [];
  private now = 0;
  private count = 0;
  /** When the last of each client's work ends. Clients whose work has ended by now are as good as new ones. */
  private readonly finishes = new Map<string, number>();

  get length(): number {
    return this.entries.length;
  }

  /** @param cost seconds of audio, about */
  push(item: Item, client: string, cost: number): void {
    const begin = Math.max(this.now, this.finishes.get(client) ?? 0);
    const finish = begin + Math.max(cost, 1e-3);
    this.finishes.set(client, finish);
    this.entries.push({ item, client, begin, finish, order: this.count++ });
  }

  /** The next item; undefined when there is none. */
  take(): Item | undefined {
    let next: Entry<Item> | undefined;
    for (const entry of this.entries) {
      if (!next || entry.finish < next.finish || (entry.finish === next.finish && entry.order < next.order)) next = entry;
    }
    if (!next) return undefined;
    this.entries.splice(this.entries.indexOf(next), 1);
    this.now = Math.max(this.now, next.begin);
    for (const [client, finish] of this.finishes) if (finish <= this.now) this.finishes.delete(client);
    if (this.entries.length === 0) this.finishes.clear();
    return next.item;
  }

  /** False when it is not here. */
  remove(item: Item): boolean {
    const index = this.entries.findIndex((entry) => entry.item === item);
    if (index >= 0) this.entries.splice(index, 1);
    return index >= 0;
  }
}
