// A whole and its parts, as a bar with a legend.

import { count } from "../words/format.ts";
import { Glyph, type Sign } from "./glyph.tsx";

export interface Part {
  /** Also the class of its colour. */
  kind: string;
  name: string;
  value: number;
  shown?: string;
  sign?: Sign;
  about?: string;
}

/** `whole` is what the bar is full at; parts that come to more fill it. */
export function Bar({ parts, whole, label }: { parts: readonly Part[]; whole: number; label: string }) {
  const sum = parts.reduce((sum, part) => sum + part.value, 0);
  const full = Math.max(whole, sum, 1e-9);
  let from = 0;
  return (
    <svg class="bar" role="img" aria-label={label} viewBox="0 0 100 1" preserveAspectRatio="none">
      {parts.map((part) => {
        const x = from;
        const width = (100 * part.value) / full;
        from += width;
        return width > 0 && <rect key={part.kind} class={`fill-${part.kind}`} x={x} y="0" width={width} height="1" />;
      })}
    </svg>
  );
}

/** The parts by name; those that are nothing are left out, unless `all`. */
export function Legend({ parts, all = false }: { parts: readonly Part[]; all?: boolean }) {
  return (
    <ul class="legend">
      {parts
        .filter((part) => all || part.value > 0)
        .map((part) => (
          <li key={part.kind} title={part.about}>
            {part.sign ? <Glyph of={part.sign} /> : <i class={`swatch fill-${part.kind}`} />}
            <b>{part.shown ?? count(part.value)}</b> {part.name}
          </li>
        ))}
    </ul>
  );
}
