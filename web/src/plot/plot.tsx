// One plot over time: lines, or areas on top of each other. Pointed at, or by the arrow keys, it tells the values of a moment.

import { useEffect, useRef, useState } from "preact/hooks";
import { duration } from "../words/format.ts";
import { areaPath, linePath, nearest, stacked, ticks, timeTicks } from "./scale.ts";

export interface Series {
  /** Also the class of its colour. */
  kind: string;
  name: string;
  values: readonly (number | null)[];
}

export interface PlotProps {
  title: string;
  about: string;
  times: readonly number[];
  series: readonly Series[];
  isStacked: boolean;
  format: (value: number) => string;
  base?: 10 | 1024;
  /** Which series the reading in words is about; all that are not zero, otherwise. */
  stepSeconds: number;
}

const HEIGHT = 132;
const TOP = 8;
const BOTTOM = 18;
const LEFT = 54;

export function Plot({ title, about, times, series, isStacked, format, base = 10, stepSeconds }: PlotProps) {
  const frame = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(360);
  const [at, setAt] = useState<number | null>(null);
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const watch = new ResizeObserver(() => setWidth(Math.max(200, Math.round(element.clientWidth))));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  const first = times[0] ?? 0;
  const last = times[times.length - 1] ?? 1;
  const sums = stacked(series.map((one) => one.values));
  const tops = isStacked ? (sums[sums.length - 1] ?? []) : series.flatMap((one) => one.values.map((value) => value ?? 0));
  const scale = ticks(Math.max(0, ...tops), 3, base);
  const max = scale[scale.length - 1] ?? 1;
  const x = (time: number) => LEFT + ((width - LEFT - 4) * (time - first)) / Math.max(1, last - first);
  const y = (value: number) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / max;
  const xs = times.map(x);
  const index = at === null || times.length === 0 ? null : Math.min(at, times.length - 1);

  const probe = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - 4);
    setAt(times.length === 0 ? null : nearest(times, first + part * (last - first)));
  };
  const step = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -15, PageDown: 15, Home: -times.length, End: times.length }[event.key];
    if (event.key === "Escape") setAt(null);
    if (by === undefined || times.length === 0) return;
    event.preventDefault();
    setAt((at) => Math.max(0, Math.min(times.length - 1, (at ?? times.length - 1) + by)));
  };

  const seconds = Math.round((last - first) / 1e3);
  const label = `${title}, ${about}, over ${duration(seconds)}. ${highest(series, format)} Arrow keys read single values.`;
  return (
    <figure class="plot">
      <figcaption>
        <b>{title}</b> <span class="note">{about}</span>
      </figcaption>
      <div ref={frame} class="plot-frame">
        <svg
          class="plot-area"
          width={width}
          height={HEIGHT}
          viewBox={`0 0 ${width} ${HEIGHT}`}
          role="img"
          aria-label={label}
          tabIndex={0}
          onPointerMove={probe}
          onPointerLeave={() => setAt(null)}
          onKeyDown={step}
          onBlur={() => setAt(null)}
        >
          {scale.map((value) => (
            <g key={value}>
              <line class="grid" x1={LEFT} x2={width - 4} y1={y(value)} y2={y(value)} />
              <text class="tick" x={LEFT - 6} y={y(value) + 3.5} text-anchor="end">
                {format(value)}
              </text>
            </g>
          ))}
          {timeTicks(first, last, width < 300 ? 4 : 6).map((time) => (
            <text key={time} class="tick" x={x(time)} y={HEIGHT - 4} text-anchor={anchor(x(time), width)}>
              {hours(time)}
            </text>
          ))}
          {isStacked
            ? series.map((one, i) => (
                <path key={one.kind} class={`fill-${one.kind}`} d={areaPath(xs, (sums[i] ?? []).map(y), xs.map((_, j) => y(sums[i - 1]?.[j] ?? 0)))} />
              ))
            : series.map((one) => (
                <path key={one.kind} class={`line line-${one.kind}`} d={linePath(xs, one.values.map((value) => (value === null ? null : y(value))))} />
              ))}
          {index !== null && <line class="cross" x1={xs[index]} x2={xs[index]} y1={TOP} y2={HEIGHT - BOTTOM} />}
        </svg>
      </div>
      <Reading {...{ series, times, index, format, stepSeconds }} />
    </figure>
  );
}

interface ReadingProps {
  series: readonly Series[];
  times: readonly number[];
  index: number | null;
  format: (value: number) => string;
  stepSeconds: number;
}

/** The legend, with the values of the moment that is pointed at, or else of the last. */
function Reading({ series, times, index, format, stepSeconds }: ReadingProps) {
  const i = index ?? times.length - 1;
  const time = times[i];
  return (
    <ul class="legend" aria-live={index === null ? "off" : "polite"}>
      {time !== undefined && <li class="moment">{index === null ? "now" : moment(time, stepSeconds)}</li>}
      {series.map((one) => {
        const value = one.values[i];
        return (
          <li key={one.kind}>
            <i class={`swatch fill-${one.kind}`} />
            {one.name} <b>{value == null ? "–" : format(value)}</b>
          </li>
        );
      })}
    </ul>
  );
}

function anchor(x: number, width: number): "start" | "middle" | "end" {
  return x < LEFT + 14 ? "start" : x > width - 18 ? "end" : "middle";
}

function two(n: number): string {
  return `${n}`.padStart(2, "0");
}

function hours(ms: number): string {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}`;
}

function moment(ms: number, stepSeconds: number): string {
  return stepSeconds > 60 ? `${hours(ms - stepSeconds * 1e3)}–${hours(ms)}` : hours(ms);
}

/** The highest value of each series, for who does not see the plot. */
function highest(series: readonly Series[], format: (value: number) => string): string {
  const said = series.map((one) => {
    const known = one.values.filter((value) => value !== null);
    return known.length === 0 ? `${one.name}: nothing recorded.` : `${one.name}: at most ${format(Math.max(...known))}.`;
  });
  return said.join(" ");
}
