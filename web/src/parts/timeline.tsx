// A worker's states, one after the other, and for how long each was.

import type { TimelineStep } from "../api/types.ts";
import { clock, duration } from "../words/format.ts";
import { withoutName } from "../words/verdict.ts";
import type { Part } from "./bar.tsx";
import { Glyph, type Sign } from "./glyph.tsx";
import { Words } from "./text.tsx";

const STEPS: Record<string, readonly [string, Sign]> = {
  starting: ["Starting", "starting"],
  ready: ["Ready", "good"],
  adopted: ["Adopted", "spare"],
  first_request: ["First request", "busy"],
  hibernated: ["Hibernated", "hibernated"],
  woken: ["Woken", "busy"],
  limited: ["At a limit", "warn"],
  retiring: ["Retiring", "draining"],
  stopping: ["Stopping", "stopping"],
  ended: ["Ended", "off"],
};

/** Messages that say no more than the step's name. */
const SAME = new Set(["started", "spawned", "given its first request"]);

/** What a worker is from a step on, as the colours of the bar have it. */
const THEN: Record<string, string> = {
  starting: "starting",
  ready: "idle",
  adopted: "idle",
  first_request: "idle",
  hibernated: "hibernated",
  woken: "idle",
  limited: "idle",
  retiring: "draining",
  stopping: "stopping",
};

export function Timeline({ steps, leftOut, now }: { steps: readonly TimelineStep[]; leftOut: number; now: number }) {
  const first = steps[0]?.at_ms ?? 0;
  const last = steps[steps.length - 1];
  const end = last?.state === "ended" ? last.at_ms : now;
  const parts: Part[] = steps.flatMap((step, i) => {
    const kind = THEN[step.state];
    const until = Math.max(step.at_ms, steps[i + 1]?.at_ms ?? end);
    return kind === undefined ? [] : [{ kind, name: step.state, value: until - step.at_ms }];
  });
  return (
    <>
      <svg class="bar" role="img" aria-label={`${duration((end - first) / 1e3)} in ${steps.length} steps, listed below`} viewBox="0 0 100 1" preserveAspectRatio="none">
        {segments(parts).map(({ kind, x, width }, i) => (
          <rect key={i} class={`fill-${kind}`} x={x} y="0" width={width} height="1" />
        ))}
      </svg>
      <ol class="timeline">
        {steps.map((step, i) => {
          const [name, sign] = STEPS[step.state] ?? [step.state, "off"];
          const before = steps[i - 1];
          return (
            <li key={`${step.at_ms} ${i}`}>
              <Glyph of={sign} />
              <span class="event-when" title={before ? `${duration((step.at_ms - before.at_ms) / 1e3)} after the step before` : undefined}>
                {clock(step.at_ms, now)}
              </span>
              <span>
                <b>{name}</b> {!SAME.has(step.message) && <Words text={withoutName(name, step.message)} />}
                {leftOut > 0 && i === 7 && <span class="note"> Then {leftOut} steps that are not kept.</span>}
              </span>
            </li>
          );
        })}
      </ol>
    </>
  );
}

function segments(parts: readonly Part[]): { kind: string; x: number; width: number }[] {
  const sum = Math.max(
    1,
    parts.reduce((sum, part) => sum + part.value, 0),
  );
  let x = 0;
  return parts.map((part) => {
    const width = (100 * part.value) / sum;
    const segment = { kind: part.kind, x, width };
    x += width;
    return segment;
  });
}
