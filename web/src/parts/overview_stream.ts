// The stream that a view lives by: `/api/v1/overview?follow=true`, one for the page, with what its view wants of it.

import { useEffect, useState } from "preact/hooks";
import { follow, type StreamState } from "../api/follow.ts";
import type { Overview } from "../api/types.ts";

export interface LiveOverview {
  /** The last that came, for whichever view. */
  overview: Overview | null;
  /** Whether it was made for what this view wants. */
  isCurrent: boolean;
  state: StreamState;
  /** When it came, by this machine's clock. */
  heardAt: number;
}

/** `version` opens it anew, as when there is another token. */
export function useOverview(wanted: Record<string, string>, version: number): LiveOverview {
  const given = Object.entries(wanted).filter(([, value]) => value !== "");
  const search = new URLSearchParams([...given, ["follow", "true"]]).toString();
  const [last, setLast] = useState<{ overview: Overview; search: string; heardAt: number } | null>(null);
  const [state, setState] = useState<StreamState>({ kind: "connecting" });
  useEffect(() => {
    let stop: (() => void) | null = null;
    // Nobody looks at a hidden page: it costs the supervisor nothing.
    const seen = () => {
      if (document.hidden) {
        stop?.();
        stop = null;
      } else if (stop === null) {
        stop = follow({ path: () => `api/v1/overview?${search}`, again: () => true, onState: setState, onEvent: taken });
      }
    };
    const taken = ({ type, data }: { type: string; data: string }) => {
      if (type === "message") setLast({ overview: JSON.parse(data) as Overview, search, heardAt: Date.now() });
    };
    seen();
    document.addEventListener("visibilitychange", seen);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      stop?.();
    };
  }, [search, version]);
  return { overview: last?.overview ?? null, isCurrent: last?.search === search, state, heardAt: last?.heardAt ?? 0 };
}
