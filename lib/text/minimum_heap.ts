/** Numbers of which the least is always at hand: a binary heap (Williams 1964), its children of i at 2 i + 1 and 2 i + 2. */
export class MinimumHeap {
  private readonly values: number[] = [];

  push(value: number): void {
    const { values } = this;
    let at = values.length;
    for (let parent = (at - 1) >> 1; at > 0 && (values[parent] as number) > value; parent = (at - 1) >> 1) {
      values[at] = values[parent] as number;
      at = parent;
    }
    values[at] = value;
  }

  /** Takes the least one out; undefined when there is none. */
  pop(): number | undefined {
    const { values } = this;
    const least = values[0];
    const last = values.pop() as number;
    const { length } = values;
    if (length === 0) return least;
    let at = 0;
    for (let child = 1; child < length; child = 2 * at + 1) {
      if (child + 1 < length && (values[child + 1] as number) < (values[child] as number)) child++;
      if ((values[child] as number) >= last) break;
      values[at] = values[child] as number;
      at = child;
    }
    values[at] = last;
    return least;
  }
}
