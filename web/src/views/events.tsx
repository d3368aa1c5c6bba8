// What happens, as it happens.

import { useEffect, useRef, useState } from "preact/hooks";
import { follow, type StreamState } from "../api/follow.ts";
import type { PoolEvent } from "../api/types.ts";
import { Choice, Filter } from "../parts/controls.tsx";
import { Empty } from "../parts/panel.tsx";
import { filter } from "../words/filter.ts";
import { EVENT_GROUPS, type EventGroup, eventWords } from "../words/events.ts";
import { count, duration } from "../words/format.ts";
import { EventList } from "./event_list.tsx";
import { steer, type ViewProps } from "./view.ts";

/** Events that are kept; those before go. */
const KEPT = 2_000;
const SHOWN = 100;
const DRAWN_EVERY_MS = 500;

export function EventsView({ route, now }: ViewProps) {
  const { events, missed, state } = useEvents();
  const group = Object.keys(EVENT_GROUPS).find((name) => name === route.query.group) as EventGroup | undefined;
  const search = route.query.search ?? "";
  const matches = filter<PoolEvent>(search, ({ tenant, server, worker, message, kind }) => ({ tenant, server, worker, message, kind: eventWords(kind) }));
  const isMeant = EVENT_GROUPS[group ?? "all"];
  const found = events.filter((event) => isMeant(event) && matches(event));
  const shown = found.slice(-SHOWN).reverse();
  return (
    <>
      <header class="view-head">
        <h1>Events</h1>
        <p class="note">
          {count(found.length)} of the last hour{found.length > SHOWN && `, the newest ${SHOWN} are shown`}
          {missed > 0 && `, ${count(missed)} came too fast to be told`}
          {state.kind === "lost" && `. Not live: ${state.why}; tried again in ${duration(Math.max(0, Math.round((state.retryAt - Date.now()) / 1e3)))}`}
        </p>
        <Choice
          label="Which events"
          value={group ?? "all"}
          onChange={(group) => steer(route, { group: group === "all" ? "" : group })}
          options={[
            ["all", "All"],
            ["troubles", "Troubles"],
            ["workers", "Workers"],
            ["packages", "Packages"],
            ["sessions", "Sessions"],
          ]}
        />
        <Filter label="Filter these events" value={search} onChange={(search) => steer(route, { search })} />
      </header>
      {shown.length === 0 ? <Empty>{events.length === 0 ? "Nothing happened within the last hour." : "None of these matches."}</Empty> : (
        <section class="panel">
          <EventList events={shown} now={now} />
        </section>
      )}
    </>
  );
}

/** The events of the last hour and those that come. They are drawn twice a second at most, however fast they come. */
function useEvents(): { events: readonly PoolEvent[]; missed: number; state: StreamState } {
  const kept = useRef<PoolEvent[]>([]);
  const [drawn, setDrawn] = useState({ events: [] as readonly PoolEvent[], missed: 0 });
  const [state, setState] = useState<StreamState>({ kind: "connecting" });
  useEffect(() => {
    let missed = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      setDrawn({ events: [...kept.current], missed });
    };
    const stop = follow({
      again: () => true,
      onState: setState,
      // After a break only what is new is asked for.
      path: () => {
        const last = kept.current[kept.current.length - 1];
        return `api/v1/events?since=${last ? last.at_ms + 1 : "1h"}`;
      },
      onEvent: ({ type, data }) => {
        if (type === "lagged") missed += Number(data) || 0;
        else if (type === "message") kept.current.push(JSON.parse(data) as PoolEvent);
        if (kept.current.length > KEPT) kept.current.splice(0, kept.current.length - KEPT);
        timer ??= setTimeout(draw, DRAWN_EVERY_MS);
      },
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, []);
  return { ...drawn, state };
}
