// Events, the newest first.

import type { PoolEvent } from "../api/types.ts";
import { Marked } from "../parts/glyph.tsx";
import { Empty } from "../parts/panel.tsx";
import { ServerLink, TenantLink, When, Words, WorkerLink } from "../parts/text.tsx";
import { eventSign, eventWords } from "../words/events.ts";
import { withoutName } from "../words/verdict.ts";

/** `now` in milliseconds since 1970. */
export function EventList({ events, now }: { events: readonly PoolEvent[]; now: number }) {
  if (events.length === 0) return <Empty>Nothing happened of which this stdiopool has kept a note.</Empty>;
  return (
    <ol class="events">
      {events.map((event, i) => (
        <li key={`${event.at_ms} ${event.kind} ${event.worker ?? ""} ${events.length - i}`}>
          <span class="event-when">
            <When ms={event.at_ms} now={now} />
          </span>
          <b>
            <Marked of={eventSign(event)}>{eventWords(event.kind)}</Marked>
          </b>
          <span class="event-who">
            {event.worker !== null && <WorkerLink id={event.worker} />} {event.server !== null && <ServerLink name={event.server} />}{" "}
            {event.tenant !== null && (
              <>
                of <TenantLink name={event.tenant} />
              </>
            )}
          </span>
          <span class="event-text">
            <Words text={withoutName(eventWords(event.kind), event.message)} />
          </span>
        </li>
      ))}
    </ol>
  );
}
