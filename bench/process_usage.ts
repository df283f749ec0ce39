/** What a process and those it has started use, as Linux tells it. */
import { readdirSync, readFileSync } from "node:fs";

/** Linux counts processor time in hundredths of a second wherever it shows it to programs. */
const ticksPerSecond = 100;

export function residentBytes(pid: number): number {
  return sumOverTree(
    pid,
    () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024,
    residentBytes,
  );
}

/** Of all threads, in user and kernel mode. */
export function cpuSeconds(pid: number): number {
  const own = (): number => {
    // The name, in parentheses, may hold spaces. Fields 14 and 15 of the whole line.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
  };
  return sumOverTree(pid, own, cpuSeconds);
}

function sumOverTree(pid: number, own: () => number, ofChild: (pid: number) => number): number {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
    );
    return own() + children.reduce((sum, child) => sum + ofChild(child), 0);
  } catch {
    return 0; // it has just ended
  }
}
