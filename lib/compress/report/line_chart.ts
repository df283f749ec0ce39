/** Line charts as inline SVG: no script, no network, readable in any browser and on paper. */

/** One line of a chart. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
}

const width = 640;
const height = 260;
const margin = { left: 62, right: 16, top: 14, bottom: 42 };

/** Points of one line at most: what a line of this width can show. */
const maximumPoints = 400;

/** A figure with its title. Points that are not finite are left out; a chart without any point is left out whole. */
export function lineChart({ title, xLabel, yLabel, series }: LineChart): string {
  const finite = series
    .map(({ name, points }) => ({ name, points: thinned(points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))) }))
    .filter(({ points }) => points.length > 0);
  if (finite.length === 0) return "";
  const all = finite.flatMap(({ points }) => points);
  const xs = ticks(Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x)));
  const ys = ticks(Math.min(...all.map(([, y]) => y)), Math.max(...all.map(([, y]) => y)));
  const place = (value: number, [first, last]: readonly [number, number], from: number, to: number): number =>
    from + ((value - first) / (last - first)) * (to - from);
  const ends = (values: readonly number[]): readonly [number, number] => [values[0] as number, values.at(-1) as number];
  const x = (value: number): string => place(value, ends(xs), margin.left, width - margin.right).toFixed(1);
  const y = (value: number): string => place(value, ends(ys), height - margin.bottom, margin.top).toFixed(1);
  const grid = ys.map(
    (value) =>
      `<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${y(value)}" y2="${y(value)}"/>` +
      `<text class="tick" x="${margin.left - 8}" y="${y(value)}" dy="0.32em" text-anchor="end">${shortNumber(value)}</text>`,
  );
  const marks = xs.map(
    (value) => `<text class="tick" x="${x(value)}" y="${height - margin.bottom + 18}" text-anchor="middle">${shortNumber(value)}</text>`,
  );
  const lines = finite.map(({ name, points }, index) => {
    const path = points.map(([px, py]) => `${x(px)},${y(py)}`).join(" ");
    const last = points.at(-1) as readonly [number, number];
    const line = `<polyline class="line series${index % 4}" points="${path}"/>`;
    const dots = (points.length <= 24 ? points : [last]).map(([px, py]) => {
      const title = escapeText(`${name}: ${shortNumber(py)} at ${shortNumber(px)}`);
      return `<circle class="dot series${index % 4}" cx="${x(px)}" cy="${y(py)}" r="3.5"><title>${title}</title></circle>`;
    });
    return line + dots.join("");
  });
  const legend =
    finite.length > 1
      ? `<p class="legend">${finite.map(({ name }, index) => `<span class="series${index % 4}">${escapeText(name)}</span>`).join("")}</p>`
      : "";
  return (
    `<figure><figcaption>${escapeText(title)}</figcaption>${legend}<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeText(title)}">` +
    grid.join("") +
    marks.join("") +
    lines.join("") +
    `<text class="label" x="${(margin.left + width - margin.right) / 2}" y="${height - 6}" text-anchor="middle">${escapeText(xLabel)}</text>` +
    `<text class="label" transform="translate(14 ${(height - margin.bottom + margin.top) / 2}) rotate(-90)" text-anchor="middle">${escapeText(yLabel)}</text>` +
    "</svg></figure>"
  );
}

/** Means of neighbours, where there are more points than can be told apart. */
function thinned(points: readonly (readonly [number, number])[]): readonly (readonly [number, number])[] {
  const group = Math.ceil(points.length / maximumPoints);
  if (group <= 1) return points;
  const mean = (part: readonly (readonly [number, number])[], axis: 0 | 1): number =>
    part.reduce((sum, point) => sum + point[axis], 0) / part.length;
  return Array.from({ length: Math.ceil(points.length / group) }, (_, index) => {
    const part = points.slice(index * group, (index + 1) * group);
    return [mean(part, 0), mean(part, 1)] as const;
  });
}

/** Round numbers that enclose `low` to `high`, four to eight of them. */
function ticks(low: number, high: number): readonly number[] {
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const raw = (high - low) / 5;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * magnitude >= raw) as number) * magnitude;
  const first = Math.floor(low / step);
  const count = Math.max(1, Math.ceil(high / step) - first);
  return Array.from({ length: count + 1 }, (_, index) => (first + index) * step);
}

/** At most four digits that mean something. */
export function shortNumber(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4)));
}

/** Text between or within tags. */
export const escapeText = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
