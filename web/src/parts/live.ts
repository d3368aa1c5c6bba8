// Values of the API that a view keeps up to date as long as it is shown and the page is seen.

import { useEffect, useState } from "preact/hooks";
import { ApiError, get } from "../api/client.ts";

export interface Polled<T> {
  value: T | null;
  /** Why the last attempt failed. */
  error: ApiError | null;
  /** Asks again at once. */
  again: () => void;
}

/** What `path` answers, as {@link useAsked} asks for it. */
export function usePolled<T>(path: string | null, everyMs: number): Polled<T> {
  return useAsked<T>(path, everyMs, (signal) => get<T>(path ?? "", signal));
}

/**
 * What `find` finds out, asked for again `everyMs` after each answer; nothing is asked for while the page is hidden, or `path`,
 * which says what the answer is of, is null.
 */
export function useAsked<T>(path: string | null, everyMs: number, find: (signal: AbortSignal) => Promise<T>): Polled<T> {
  const [answer, setAnswer] = useState<{ path: string | null; value: T | null; error: ApiError | null }>({ path, value: null, error: null });
  const [asked, setAsked] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isAsking = false;
    const ask = async () => {
      timer = undefined;
      if (document.hidden || isAsking) return;
      isAsking = true;
      try {
        const value = await find(stop.signal);
        setAnswer({ path, value, error: null });
      } catch (error) {
        if (stop.signal.aborted) return;
        const refused = error instanceof ApiError ? error : new ApiError(0, "unreadable", "the answer cannot be read");
        setAnswer((before) => ({ path, value: before.path === path ? before.value : null, error: refused }));
      }
      isAsking = false;
      if (!stop.signal.aborted) timer = setTimeout(() => void ask(), everyMs);
    };
    const seen = () => {
      if (!document.hidden && timer === undefined) void ask();
    };
    document.addEventListener("visibilitychange", seen);
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [path, everyMs, asked]);
  const isThis = answer.path === path;
  return { value: isThis ? answer.value : null, error: isThis ? answer.error : null, again: () => setAsked((n) => n + 1) };
}

/** The time, once a second while the page is seen. */
export function useNow(everyMs = 1_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}
